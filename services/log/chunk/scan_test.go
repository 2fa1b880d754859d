package chunk

import (
	"testing"

	"resinos/services/log/entry"
)

func FuzzScan(f *testing.F) {
	whole := plainChunk(5)
	f.Add(whole, 0, byte(0))
	f.Add(whole[:len(whole)-3], 90, byte(1))
	f.Add(whole[:HeaderSize], 9, byte(2))
	f.Fuzz(func(t *testing.T, b []byte, at int, flip byte) {
		b = append([]byte(nil), b...)
		if at >= 0 && at < len(b) {
			b[at] ^= flip
		}
		s, err := Scan(b)
		if err != nil {
			return
		}
		if s.Valid < HeaderSize || s.Valid > len(b) || s.Base > s.Valid {
			t.Errorf("valid %d, base %d of %d", s.Valid, s.Base, len(b))
		}
		again, err := Scan(b[:s.Valid])
		if err != nil || again.Valid != s.Valid || again.Seq != s.Seq {
			t.Errorf("scan of the valid part differs: %d and %d entries", s.Seq, again.Seq)
		}
	})
}

// FuzzDecode goes behind the checksum, to the payloads themselves.
func FuzzDecode(f *testing.F) {
	s := &Source{Source: web, ID: 1}
	f.Add(AppendSource(nil, s)[recordHead:],
		AppendEntry(nil, Header{}, s, sample(web, 1), []byte("hello"), 6, true)[recordHead:])
	f.Add([]byte{kindSource}, []byte{kindEntry, 0xff})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		d := NewDecoder(Header{})
		for _, payload := range [][]byte{a, b} {
			if len(payload) == 0 {
				continue
			}
			message, isEntry, err := d.Decode(payload, new(entry.Entry))
			if err != nil && isEntry || len(message) > len(payload) {
				t.Errorf("decode(%q) = %q, %v, %v", payload, message, isEntry, err)
			}
		}
	})
}
