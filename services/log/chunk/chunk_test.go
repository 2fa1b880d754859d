package chunk

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"resinos/services/log/entry"
	"resinos/services/log/pipe"
)

var (
	web  = pipe.Source{Kind: pipe.Container, Name: "hello.web", Stream: pipe.Stdout}
	netd = pipe.Source{Kind: pipe.Service, Name: "netd", Stream: pipe.Log}
)

// sampleX is entry i of a source.
func sample(s pipe.Source, i int) *entry.Entry {
	step := time.Duration(i) * time.Millisecond
	return &entry.Entry{
		Kind: s.Kind, Name: s.Name, Stream: s.Stream, Priority: 6,
		Time: time.UnixMicro(1_767_225_600_000_000).Add(step), Boottime: 3*time.Second + step,
	}
}

// plainChunk is a plain chunk of n entries of two sources.
func plainChunk(n int) []byte {
	h := Header{Codec: CodecPlain, Boot: [16]byte{1, 2, 3}, Wall: 1_767_225_600_000_000, Boottime: 3_000_000}
	b := h.Append(nil)
	sources := []*Source{{Source: web, ID: 0}, {Source: netd, ID: 1}}
	for _, s := range sources {
		b = AppendSource(b, s)
	}
	for i := range n {
		s := sources[i%2]
		b = AppendEntry(b, h, s, sample(s.Source, i), fmt.Appendf(nil, "line %d", i), 10, false)
	}
	return b
}

// grownX is a chunk of n entries, each of which is a batch of its own, and where in it each ends.
func grown(t testing.TB, n int) (b []byte, ends []int) {
	t.Helper()
	var g *Growth
	for i := range n {
		e := sample([]pipe.Source{web, netd}[i%2], i)
		e.Seq, e.PID, e.Message = uint64(5+i), i, fmt.Sprintf("line %d %s", i, strings.Repeat("x", i))
		if g == nil {
			g = Grow([16]byte{7}, e)
		}
		if _, err := g.Add(e); err != nil {
			t.Fatal(err)
		}
		more, err := g.Take()
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, more...)
		ends = append(ends, len(b))
		if i%2 == 0 {
			g.Rest()
		}
	}
	return b, ends
}
