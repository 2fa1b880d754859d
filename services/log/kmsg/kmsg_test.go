package kmsg

import (
	"reflect"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		in   string
		want Record
	}{
		{"6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=net\n",
			Record{Priority: 6, Seq: 339, At: 5140900 * time.Microsecond,
				Message: []byte("NET: Registered protocol family 10")}},
		{"12,1,2,-,caller=T1;init: step 1/19\n", // user.warning
			Record{Priority: 4, Facility: 1, Seq: 1, At: 2000, Tag: "init", Message: []byte("step 1/19")}},
		{"30,7,0,-;dockerd[77]: up", Record{Priority: 6, Facility: 3, Seq: 7, Tag: "dockerd", PID: 77,
			Message: []byte("up")}},
		{"14,7,0,-;No Tag: up", Record{Priority: 6, Facility: 1, Seq: 7, Message: []byte("No Tag: up")}},
		{"14,7,0,-;a[x]: up", Record{Priority: 6, Facility: 1, Seq: 7, Message: []byte("a[x]: up")}},
		{`4,8,9,c;a\x0ab\x5cx\xzz\x1`, Record{Priority: 4, Seq: 8, At: 9000, Message: []byte("a\nb\\x\\xzz\\x1")}},
		{"0,0,0,-;", Record{Message: []byte{}}},
	} {
		got, err := Parse([]byte(test.in))
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("Parse(%q) =\n%+v, %v, want\n%+v", test.in, got, err, test.want)
		}
	}
	for _, in := range []string{"", ";", "6,1,2;x", "6,1,2,-", "a,1,2,-;x", "6,-1,2,-;x",
		"6,1,99999999999999999999,-;x", "70000,1,2,-;x"} {
		if got, err := Parse([]byte(in)); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", in, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("6,339,5140900,-;NET: Registered protocol family 10\n SUBSYSTEM=net\n"))
	f.Add([]byte(`12,1,2,-,caller=T1;init[4]: a\x0a`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err == nil && (r.Priority < 0 || r.Priority > 7 || r.At < 0 || len(r.Message) > len(b)) {
			t.Errorf("Parse(%q) = %+v", b, r)
		}
	})
}
