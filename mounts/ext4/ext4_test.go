package ext4

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"resinos/mounts/testenv"
)

func TestReadWhatMke2fsWrites(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fs")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 64<<20); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(testenv.NeedProgram(t, "mke2fs"), "-q", "-F", "-t", "ext4", "-b", "4096", "-L", "resin-state", "-m", "2", "-O", "metadata_csum,metadata_csum_seed,64bit,quota,project", "-U", "03020100-0504-0706-0809-0a0b0c0d0e0f", file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	want := Super{Label: "resin-state", UUID: [16]byte{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15}, BlockSize: 4096, Blocks: 16384, Reserved: 327, Renamable: true, Quota: true}
	if s != want {
		t.Errorf("Read = %+v, want %+v", s, want)
	}
}

func FuzzParse(f *testing.F) {
	b := make([]byte, 1024)
	binary.LittleEndian.PutUint16(b[0x38:], superMagic)
	binary.LittleEndian.PutUint32(b[4:], 1000)
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err == nil && (s.Blocks == 0 || s.Reserved > s.Blocks || s.BlockSize < 1024) {
			t.Errorf("Parse gives %+v", s)
		}
		if err != nil && !errors.Is(err, ErrNone) {
			t.Errorf("Parse fails with %v", err)
		}
	})
}
