package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

func TestReadWhatMke2fsWrites(t *testing.T) {
	s, err := Read(bytes.NewReader(content(t, 64, "-L", "resin-state", "-m", "2", "-O",
		"metadata_csum,metadata_csum_seed,64bit,quota,project",
		"-U", "03020100-0504-0706-0809-0a0b0c0d0e0f")))
	if err != nil {
		t.Fatal(err)
	}
	want := Super{Label: "resin-state", UUID: [16]byte{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15},
		BlockSize: 4096, Blocks: 16384, Reserved: 327, Renamable: true, Quota: true}
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
