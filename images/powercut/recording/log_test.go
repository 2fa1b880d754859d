package recording

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"resinos/images/powercut/recording/recordingtest"
)

func readLog(t *testing.T, lines ...recordingtest.Line) *Log {
	t.Helper()
	text := recordingtest.Encode(lines)
	l, err := ReadLog(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestEpochs(t *testing.T) {
	l := readLog(t, recordingtest.Flush(), recordingtest.At(1, "a"), recordingtest.At(2, "bc"), recordingtest.Flush(),
		recordingtest.Flush(), recordingtest.At(1, "d").Flagged(flagFlush|FlagFUA), recordingtest.Discard(4, 2),
		recordingtest.Flush(), recordingtest.At(9, "e"))
	var got []string
	for _, e := range l.Epochs() {
		got = append(got, fmt.Sprintf("%d %v %d", e.First, e.Writes, e.End))
	}
	if want := []string{"1 [1 2] 3", "5 [5 6] 7", "8 [8] 9"}; !slices.Equal(got, want) {
		t.Errorf("Epochs = %q, want %q", got, want)
	}
	data, err := l.Data(l.Entries[6])
	if err != nil || !bytes.Equal(data, make([]byte, 2*SectorSize)) {
		t.Errorf("a discard reads as %d bytes, %v", len(data), err)
	}
}

func TestReadLogRefuses(t *testing.T) {
	good := recordingtest.Encode([]recordingtest.Line{recordingtest.At(1, "a"), recordingtest.At(2, "b")})
	change := func(at int, value uint64) []byte {
		bad := slices.Clone(good)
		recordingtest.Put64(bad[at:], value)
		return bad
	}
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"nothing": {nil, "head"},
		"magic":   {change(0, 7), "this is no write log"},
		"version": {change(8, 2), "version 2"},
		"count":   {change(16, 1<<60), "at most"},
		"sector":  {change(SectorSize, 1<<63), "out of any disk"},
		"flags":   {change(SectorSize+16, 64), "entry 0: flags 0x40"},
		"sectors": {change(24, 4096), "log-sector-size=512"},
	} {
		if _, err := ReadLog(bytes.NewReader(c.text), int64(len(c.text))); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: ReadLog = %v, want %q", name, err, c.want)
		}
	}
	for cut := SectorSize; cut < len(good); cut += 100 { // the log of a QEMU that was killed
		l, err := ReadLog(bytes.NewReader(good[:cut]), int64(cut))
		if err != nil || len(l.Entries) != (cut-SectorSize)/(2*SectorSize) {
			t.Errorf("cut at %d: %d entries, %v", cut, len(l.Entries), err)
		}
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add(recordingtest.Encode([]recordingtest.Line{recordingtest.At(1, "a"), recordingtest.Flush(),
		recordingtest.Discard(3, 9)}))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ReadLog(bytes.NewReader(text), int64(len(text)))
		if err != nil {
			return
		}
		for _, e := range l.Epochs() {
			if len(e.Writes) == 0 || e.End > len(l.Entries) {
				t.Errorf("epoch %+v of %d entries", e, len(l.Entries))
			}
		}
	})
}
