package spool

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"resinos/services/log/entry"
)

func TestNextLine(t *testing.T) {
	long := strings.Repeat("x", entry.MaxMessage)
	for _, test := range []struct {
		in    string
		flush bool
		want  []string // priority:message, + for cut, and the rest
	}{
		{"", true, []string{""}},
		{"a\nb\r\n\nc", false, []string{"6:a", "6:b", "6:", "c"}},
		{"a\nc", true, []string{"6:a", "6:c+", ""}},
		{"<3>bad\n<9>x\n<0>\n<3", false, []string{"3:bad", "6:<9>x", "0:", "<3"}},
		{long, false, []string{long}},
		{long + "\n", false, []string{"6:" + long, ""}},
		{long + "yz\n", false, []string{"6:" + long + "+", "6:yz", ""}},
		{"\x00\xff\n", false, []string{"6:\x00\xff", ""}},
	} {
		rest := []byte(test.in)
		var got []string
		for {
			l, ok := nextLine(rest, test.flush, true)
			if !ok {
				break
			}
			text := fmt.Sprintf("%d:%s", l.Priority, l.Message)
			if l.Cut {
				text += "+"
			}
			got = append(got, text)
			rest = rest[l.Size:]
		}
		if got = append(got, string(rest)); !reflect.DeepEqual(got, test.want) {
			t.Errorf("lines of %.40q: %.99q, want %.99q", test.in, got, test.want)
		}
	}
}

func FuzzNextLine(f *testing.F) {
	f.Add([]byte("<3>a\r\nb"), true, true)
	f.Add([]byte("x\x01pid 7\nb"), true, true)
	f.Fuzz(func(t *testing.T, b []byte, flush, control bool) {
		l, ok := nextLine(b, flush, control)
		if ok && (l.Size <= 0 || l.Control && !control || l.Size > len(b) || len(l.Message) > entry.MaxMessage ||
			bytes.Contains(l.Message, []byte("\n"))) {
			t.Errorf("nextLine(%q) = %+v", b, l)
		}
		if !ok && (flush && len(b) > 0 || len(b) > entry.MaxMessage) {
			t.Errorf("nextLine(%q) found no line", b)
		}
	})
}
