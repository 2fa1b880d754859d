package pack_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/bsp/bundle"
	"resinos/mounts/testenv"
)

// installEnv makes the test binary install a bundle and print what that took: a process of its own, whose memory
// nothing else uses. Its value is the bundle, the slot, and the running slot or nothing.
const installEnv = "RESINOS_TEST_INSTALL"

func TestMain(m *testing.M) {
	if args := os.Getenv(installEnv); args != "" {
		if err := child(strings.Split(args, ":")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child installs and prints the duration in nanoseconds and the largest memory in KiB.
func child(args []string) error {
	keys, err := bundle.LoadKeys(filepath.Dir(args[0]))
	if err != nil {
		return err
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	begin := time.Now()
	b, err := bundle.Open(io.NewSectionReader(f, 0, st.Size()), keys)
	if err != nil {
		return err
	}
	slot, err := os.OpenFile(args[1], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var seed io.ReaderAt
	size := int64(0)
	if args[2] != "" {
		old, err := os.Open(args[2])
		if err != nil {
			return err
		}
		seed, size = old, b.Manifest().Slot.Size
	}
	fetched := int64(0)
	report := func(p bundle.Progress) { fetched = p.Fetched }
	if err := b.Install(context.Background(), seed, size, slot, report); err != nil {
		return err
	}
	took := time.Since(begin)
	status, err := os.Open("/proc/self/status")
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(status); lines.Scan(); {
		var kib int64
		if n, _ := fmt.Sscanf(lines.Text(), "VmHWM: %d kB", &kib); n == 1 {
			fmt.Println(took.Nanoseconds(), kib, fetched)
			return nil
		}
	}
	return errors.New("no VmHWM in /proc/self/status")
}

// TestCost measures time and memory of an installation by a process of its own: of a slot of 192 MiB with 48 MiB of
// content if figures count, and of a small one if not.
func TestCost(t *testing.T) {
	size, used := 3<<20, 1<<20
	if testenv.Figures() {
		size, used = 192<<20, 48<<20
	}
	dir := t.TempDir()
	k := newKey(t, "release")
	img := make([]byte, size)
	copy(img[1<<20:], random(1, used))
	name := func(n string) string { return filepath.Join(dir, n) }
	for file, text := range map[string][]byte{
		"bundle": write(t, manifest(len(img)), img, k), bundle.TrustFile: trust(1, k).Encode(),
		"old": img, "idle": make([]byte, len(img)), "idle2": make([]byte, len(img)),
	} {
		if err := os.WriteFile(name(file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plain := plainWrite(t, name("plain"), img[1<<20:1<<20+used])
	for what, files := range map[string][2]string{
		"full": {name("idle"), ""}, "from the running slot": {name("idle2"), name("old")},
	} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), installEnv+"="+name("bundle")+":"+files[0]+":"+files[1])
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var took time.Duration
		var kib, fetched int64
		if _, err := fmt.Sscan(string(out), &took, &kib, &fetched); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		t.Logf("%s: %v, %d KiB of memory, %d bytes fetched; writing %d bytes takes %v",
			what, took, kib, fetched, used, plain)
		if kib > 32<<10 && testenv.Figures() {
			t.Errorf("%s: %d KiB of memory, at most 32 MiB", what, kib)
		}
	}
}

// plainWrite returns how long the disk takes for the content alone.
func plainWrite(t *testing.T, name string, content []byte) time.Duration {
	t.Helper()
	begin := time.Now()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}

// BenchmarkInstall installs into memory: what is left is processor time.
func BenchmarkInstall(b *testing.B) {
	k := newKey(b, "release")
	img := make([]byte, 64<<20)
	copy(img[1<<20:], random(1, 16<<20))
	text := write(b, manifest(len(img)), img, k)
	for name, seed := range map[string][]byte{"full": nil, "from the running slot": img} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(16 << 20)
			for b.Loop() {
				empty := &slot{data: make([]byte, len(img))}
				if _, err := install(b, &file{data: text}, trust(1, k), seed, empty); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
