package chunk

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzFrames is for chunks from flash: whatever is in them, reading ends, within bounds.
func FuzzFrames(f *testing.F) {
	plain, packed := filepath.Join(f.TempDir(), "plain"), filepath.Join(f.TempDir(), "packed")
	if err := os.WriteFile(plain, plainChunk(20), 0o600); err != nil {
		f.Fatal(err)
	}
	if err := Pack(f.Context(), plain, packed, NewFramer()); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(packed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, 0, byte(0))
	f.Add(whole, HeaderSize+2, byte(1))
	f.Add(whole[:len(whole)-1], 70, byte(9))
	f.Fuzz(func(t *testing.T, b []byte, at int, flip byte) {
		b = bytes.Clone(b)
		if at >= 0 && at < len(b) {
			b[at] ^= flip
		}
		fr := NewFrames(bytes.NewReader(b), int64(len(b)))
		for {
			payload, err := fr.Next()
			if err != nil {
				break
			}
			if len(payload) == 0 || len(payload) > maxPayload {
				t.Fatalf("payload of %d bytes", len(payload))
			}
		}
		if s, err := Scan(b); err == nil && s.Valid > len(b) {
			t.Errorf("valid %d of %d", s.Valid, len(b))
		}
	})
}

// FuzzInflate goes behind the checksum, to the deflated bytes.
func FuzzInflate(f *testing.F) {
	made := NewFramer()
	made.add([]byte{kindEntry, 1, 2})
	var b bytes.Buffer
	made.finish(&b)
	f.Add(b.Bytes()[frameHead:], uint32(4))
	f.Fuzz(func(t *testing.T, deflated []byte, plain uint32) {
		if len(deflated) > maxPacked {
			return
		}
		file := make([]byte, HeaderSize+frameHead)
		file = append(file, deflated...)
		head := file[HeaderSize:]
		putFrameHead(head, int(plain))
		fr := NewFrames(bytes.NewReader(file), int64(len(file)))
		total := 0
		for {
			payload, err := fr.Next()
			if err != nil {
				break
			}
			total += len(payload)
		}
		if total > maxFrame {
			t.Errorf("%d bytes of one frame", total)
		}
	})
}

func BenchmarkPack(b *testing.B) {
	payload := []byte(strings.Repeat("x", 20) + "GET /index.html HTTP/1.1 200 from 192.168.17.4 in 13 ms")
	f := NewFramer()
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		if full, err := f.add(payload); err != nil {
			b.Fatal(err)
		} else if full {
			f.finish(io.Discard)
		}
	}
}
