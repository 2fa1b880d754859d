package entry

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"resinos/services/log/pipe"
)

func TestEntryJSON(t *testing.T) {
	for _, message := range []string{"plain", "quote \" \\ \t\x01 é 日", "not utf-8 \xff\x00", ""} {
		want := Entry{
			Kind: pipe.Container, Name: "hello.web", Stream: pipe.Stdout, Time: time.UnixMicro(1_767_225_600_001_000),
			Boottime: 3001 * time.Millisecond, Priority: 6,
		}
		want.Seq, want.Boot, want.PID, want.Cut, want.Message = 9, "b", 5, true, message
		want.Time = want.Time.UTC()
		b, err := json.Marshal(&want)
		if err != nil {
			t.Fatal(err)
		}
		var got Entry
		if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n gave %+v, %v\nwant %+v", b, got, err, want)
		}
	}
}
