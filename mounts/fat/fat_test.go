package fat

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"resinos/mounts/fat/fattest"
	"resinos/mounts/testenv"
)

func shared(t *testing.T, file string) (string, bool) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, found, err := Shared(f)
	if err != nil {
		t.Fatal(err)
	}
	return p.String(), found
}

// fill puts many files into many folders, so that both have several clusters.
func fill(t *testing.T, file string) {
	t.Helper()
	for _, folder := range []string{"deep", "deep/er"} {
		testenv.Run(t, "mmd", "-i", file, "::"+folder)
	}
	for n := range 40 {
		fattest.Copy(t, file, fmt.Sprintf("deep/er/a file with a long name %d", n), strings.Repeat("x", 3000))
	}
	fattest.Copy(t, file, "deep/config.json", "the content")
	fattest.Copy(t, file, "empty", "")
	fattest.Copy(t, file, "empty too", "")
}

func TestShared(t *testing.T) {
	for bits, mib := range map[string]int64{"12": 1, "16": 8, "32": 40} {
		t.Run(bits, func(t *testing.T) {
			file := fattest.New(t, mib, bits)
			fill(t, file)
			if p, found := shared(t, file); found {
				t.Errorf("a sound file system: %s", p)
			}
			fattest.Copy(t, file, "config.json.new", "") // FIBMAP calls this one nothing, whatever it leads to
			fattest.Cross(t, file, "CONFIG~1JSO", "CONFIG~1NEW")
			if p, found := shared(t, file); !found || p != "CONFIG~1.NEW and CONFIG~1.JSO share their blocks" {
				t.Errorf("a file under two names: %s, %v", p, found)
			}
		})
	}
}

// TestEndless: what leads in circles is told or given up, and nothing is read without end.
func TestEndless(t *testing.T) {
	file := fattest.New(t, 40, "32")
	fill(t, file)
	fattest.Cross(t, file, "DEEP       ", "ER         ")
	if p, found := shared(t, file); !found {
		t.Errorf("a folder in itself: %s, %v", p, found)
	}
	disk, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	v, err := open(bytes.NewReader(disk))
	if err != nil {
		t.Fatal(err)
	}
	copy(disk[v.table+4*int64(v.root):], []byte{byte(v.root), 0, 0, 0}) // the root folder's cluster is followed by itself
	if _, _, err := Shared(bytes.NewReader(disk)); !errors.Is(err, ErrNone) {
		t.Errorf("a folder without an end: %v", err)
	}
	if _, _, err := Shared(bytes.NewReader(make([]byte, 4096))); !errors.Is(err, ErrNone) {
		t.Errorf("no file system: %v", err)
	}
}

func FuzzShared(f *testing.F) {
	for bits, sectors := range map[byte]byte{12: 16, 16: 16, 32: 16} {
		b := make([]byte, 4096)
		copy(b[11:], []byte{0, 2, 1, 1, 0, 1, 16, 0, sectors, 0, 0xf8, 1, 0})
		if bits == 32 {
			copy(b[17:], make([]byte, 2))
			copy(b[22:], make([]byte, 2))
			copy(b[36:], []byte{1, 0, 0, 0, 0, 0, 0, 0, 2})
		}
		b[510], b[511] = 0x55, 0xaa
		copy(b[1024:], "A       TXT ")
		b[1024+26] = 3
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, found, err := Shared(bytes.NewReader(b))
		if found && (err != nil || p[0] == "" && p[1] == "") {
			t.Errorf("Shared = %q, %v, %v", p, found, err)
		}
	})
}
