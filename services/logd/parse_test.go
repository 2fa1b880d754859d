package logd

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"resinos/services/logring"
)

func TestParseKernelRecord(t *testing.T) {
	for _, test := range []struct {
		in   string
		want kernelRecord
	}{
		{"6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=net\n",
			kernelRecord{priority: 6, seq: 339, at: 5140900 * time.Microsecond, message: []byte("NET: Registered protocol family 10")}},
		{"12,1,2,-,caller=T1;init: step 1/19\n", // user.warning
			kernelRecord{priority: 4, facility: 1, seq: 1, at: 2000, tag: "init", message: []byte("step 1/19")}},
		{"30,7,0,-;dockerd[77]: up", kernelRecord{priority: 6, facility: 3, seq: 7, tag: "dockerd", pid: 77, message: []byte("up")}},
		{"14,7,0,-;No Tag: up", kernelRecord{priority: 6, facility: 1, seq: 7, message: []byte("No Tag: up")}},
		{"14,7,0,-;a[x]: up", kernelRecord{priority: 6, facility: 1, seq: 7, message: []byte("a[x]: up")}},
		{`4,8,9,c;a\x0ab\x5cx\xzz\x1`, kernelRecord{priority: 4, seq: 8, at: 9000, message: []byte("a\nb\\x\\xzz\\x1")}},
		{"0,0,0,-;", kernelRecord{message: []byte{}}},
	} {
		got, err := parseKernelRecord([]byte(test.in))
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("parseKernelRecord(%q) =\n%+v, %v, want\n%+v", test.in, got, err, test.want)
		}
	}
	for _, in := range []string{"", ";", "6,1,2;x", "6,1,2,-", "a,1,2,-;x", "6,-1,2,-;x", "6,1,99999999999999999999,-;x", "70000,1,2,-;x"} {
		if got, err := parseKernelRecord([]byte(in)); err == nil {
			t.Errorf("parseKernelRecord(%q) = %+v, want an error", in, got)
		}
	}
}

// The kernel of this machine is the best author of samples.
func TestParseRealKernelLog(t *testing.T) {
	ring, _, err := logring.Open(t.TempDir(), 1<<20, [16]byte{}, now)
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	k, err := openKernelLog("/dev/kmsg", ring)
	if err != nil {
		t.Skipf("needs the kernel's log: %v", err)
	}
	defer k.close()
	for range 10 {
		if err := k.turn(ring, now); err != nil {
			t.Skipf("needs to read the kernel's log: %v", err)
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

func FuzzParseKernelRecord(f *testing.F) {
	f.Add([]byte("6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=net\n"))
	f.Add([]byte(`12,1,2,-,caller=T1;init[4]: a\x0a`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseKernelRecord(b)
		if err == nil && (r.priority < 0 || r.priority > 7 || r.at < 0 || len(r.message) > len(b)) {
			t.Errorf("parseKernelRecord(%q) = %+v", b, r)
		}
	})
}

func TestNextLine(t *testing.T) {
	long := strings.Repeat("x", logring.MaxMessage)
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
		if ok && (l.size <= 0 || l.control && !control || l.size > len(b) || len(l.message) > logring.MaxMessage || bytes.Contains(l.message, []byte("\n"))) {
			t.Errorf("nextLine(%q) = %+v", b, l)
		}
		if !ok && (flush && len(b) > 0 || len(b) > logring.MaxMessage) {
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
	for text, want := range map[string]int64{"8M": 8 << 20, "64k": 64 << 10, "1G": 1 << 30, "8388608": 8 << 20} {
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
