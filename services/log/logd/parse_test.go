package logd

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"resinos/mounts/testenv"
	"resinos/services/log/entry"
	"resinos/services/log/ring"
)

// The kernel of this machine is the best author of samples.
func TestRealKernelLog(t *testing.T) {
	ring, _, err := ring.Open(t.TempDir(), 1<<20, [16]byte{}, now)
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	k, err := openKernelLog("/dev/kmsg", ring)
	if err != nil {
		testenv.Lacking(t, "the kernel's log: %v", err)
	}
	defer k.close()
	for range 10 {
		if err := k.turn(ring, now); err != nil {
			testenv.Lacking(t, "the kernel's log: %v", err)
		}
	}
	if err := ring.Commit(); err != nil {
		t.Fatal(err)
	}
	first, err := openKernelLog("/dev/kmsg", ring)
	if err != nil {
		t.Fatal(err)
	}
	defer first.close()
	if first.next != k.next {
		t.Errorf("a second life goes on at %d, the first one stopped at %d", first.next, k.next)
	}
	t.Logf("%d records", ring.Next())
}

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
			text := fmt.Sprintf("%d:%s", l.priority, l.message)
			if l.cut {
				text += "+"
			}
			got = append(got, text)
			rest = rest[l.size:]
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
		if ok && (l.size <= 0 || l.control && !control || l.size > len(b) || len(l.message) > entry.MaxMessage || bytes.Contains(l.message, []byte("\n"))) {
			t.Errorf("nextLine(%q) = %+v", b, l)
		}
		if !ok && (flush && len(b) > 0 || len(b) > entry.MaxMessage) {
			t.Errorf("nextLine(%q) found no line", b)
		}
	})
}

func FuzzParseInotify(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 'a', 'b', 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, ev := range parseInotify(b) {
			if strings.ContainsRune(ev.name, 0) {
				t.Errorf("parseInotify(%q) has the name %q", b, ev.name)
			}
		}
	})
}

func TestBootID(t *testing.T) {
	id, err := bootID()
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	if err == nil && id == [16]byte{} {
		t.Error("boot id is zero")
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"8M": 8 << 20, "64k": 64 << 10, "1G": 1 << 30, "8388608": 8 << 20, "8 MiB": 8 << 20} {
		if got, err := ParseSize(text); got != want || err != nil {
			t.Errorf("ParseSize(%q) = %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "M", "-8M", "8MB", "1", "63K", "9999G", "4294967296G"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d", text, got)
		}
	}
}
