package verity

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

// appended writes size bytes, of which no block is like another, into a file, appends the tree, and returns both.
func appended(t *testing.T, size int64) (string, Root) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "root")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content := make([]byte, size)
	for at := 0; at+8 <= len(content); at += 8 {
		binary.LittleEndian.PutUint64(content[at:], uint64(at))
	}
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	r, err := Append(f, size)
	if err != nil {
		t.Fatal(err)
	}
	return name, r
}

func veritysetup(name string, r Root, verb string, more ...string) (string, error) {
	args := []string{verb, "--no-superblock", "--salt=-", "--data-block-size=4096", "--hash-block-size=4096",
		fmt.Sprintf("--data-blocks=%d", r.Blocks), fmt.Sprintf("--hash-offset=%d", r.Blocks*BlockSize), name, name}
	out, err := exec.Command("veritysetup", append(args, more...)...).CombinedOutput()
	return string(out), err
}

// TestVeritysetup compares with the program that made the format: it computes the same tree, finds ours in order, and
// finds one flipped bit of the data and of each level.
func TestVeritysetup(t *testing.T) {
	testenv.NeedPrograms(t, "veritysetup")
	for _, size := range []int64{BlockSize, BlockSize + 1, 2 * BlockSize, 128 * BlockSize, 128*BlockSize + 1,
		3<<20 + 77, 64<<20 + 1} { // one level is for 128 blocks, two are for 64 MiB
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			name, r := appended(t, size)
			if out, err := veritysetup(name, r, "verify", r.Hash); err != nil {
				t.Fatalf("verify: %v: %s", err, out)
			}
			ours, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(name, r.Blocks*BlockSize); err != nil {
				t.Fatal(err)
			}
			out, err := veritysetup(name, r, "format")
			if err != nil || !strings.Contains(out, r.Hash) {
				t.Errorf("format: %v: %s; want root hash %s", err, out, r.Hash)
			}
			if theirs, err := os.ReadFile(name); err != nil || !bytes.Equal(ours, theirs) {
				t.Errorf("the tree differs from that of veritysetup: %v", err)
			}
			for _, at := range []int64{0, size - 1, r.Blocks * BlockSize, int64(len(ours)) - BlockSize} {
				if at >= int64(len(ours)) || size > 64<<20 {
					continue // one block of data has no tree; the largest file is only for its third level
				}
				damaged := bytes.Clone(ours)
				damaged[at] ^= 1
				if err := os.WriteFile(name, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				if out, err := veritysetup(name, r, "verify", r.Hash); err == nil {
					t.Errorf("a flipped bit at %d is not found: %s", at, out)
				}
			}
		})
	}
}

func TestAppendTwice(t *testing.T) {
	first, a := appended(t, 3<<20)
	second, b := appended(t, 3<<20)
	x, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(second)
	if err != nil || a != b || !bytes.Equal(x, y) {
		t.Errorf("the same content gives %v and %v, %v", a, b, err)
	}
	if _, err := Append(nil, 0); err == nil {
		t.Error("an empty file has a tree")
	}
}

func TestParse(t *testing.T) {
	want := Root{Hash: strings.Repeat("0a", 32), Blocks: 9000}
	if got, err := Parse(want.String()); err != nil || got != want {
		t.Errorf("Parse(%q) = %v, %v", want.String(), got, err)
	}
	for _, text := range []string{"", "\n", "sha256", strings.TrimSuffix(want.String(), "\n"), want.String() + "x",
		"sha512" + want.String()[6:], strings.ToUpper(want.String()), "sha256 0a 9000\n",
		"sha256 " + want.Hash + " 0\n", "sha256 " + want.Hash + " -1\n", "sha256 " + want.Hash + " 99999999999999\n",
		"sha256 " + want.Hash[:62] + "xx 1\n", "sha256  " + want.Hash + " 1\n"} {
		if got, err := Parse(text); err == nil {
			t.Errorf("Parse(%q) = %v, want a fault", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Root{Hash: strings.Repeat("0", 64), Blocks: 1}.String())
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := Parse(text); err == nil && r.String() != text {
			t.Errorf("Parse(%q) = %v", text, r)
		}
	})
}

// TestTarget: the bytes are those that the kernel reads, struct dm_target_spec and its parameters.
func TestTarget(t *testing.T) {
	r := Root{Hash: strings.Repeat("ab", 32), Blocks: 300}
	want := "1 /dev/loop0 /dev/loop0 4096 4096 300 300 sha256 " + r.Hash + " - 1 panic_on_corruption\x00"
	got := r.target("/dev/loop0", Panic)
	spec := *(*unix.DmTargetSpec)(unsafe.Pointer(&got[0]))
	if spec.Length != 2400 || spec.Next != uint32(len(got)) || len(got)%8 != 0 ||
		unix.ByteSliceToString(spec.Target_type[:]) != "verity" || !strings.HasPrefix(string(got[40:]), want) {
		t.Errorf("target = %+v %q, want %q", spec, got[40:], want)
	}
	if text := r.table("7:0", Fail); strings.HasSuffix(text, "1 ") || !strings.HasSuffix(text, " -") {
		t.Errorf("without a reaction: %q", text)
	}
}
