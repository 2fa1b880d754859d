package condition

import (
	"resinos/services/spec/precondition"

	"os"
	"path/filepath"
	"testing"
)

func TestConditions(t *testing.T) {
	there := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(there, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	j := Judge{known: &facts{config: map[string]string{"hostname": "box", "developmentMode": "true"},
		cmdline: []string{"quiet", "a=b"}, board: "qemu-x86_64"}}
	for _, tt := range []struct {
		kind  precondition.Kind
		value string
		want  bool
	}{
		{precondition.Path, there, true}, {precondition.Path, there + "/not", false},
		{precondition.Config, "hostname", true}, {precondition.Config, "hostname=box", true},
		{precondition.Config, "hostname=bo", false},
		{precondition.Config, "developmentMode=true", true}, {precondition.Config, "uuid", false},
		{precondition.Config, "uuid|developmentMode=true", true},
		{precondition.Config, "uuid|developmentMode=false", false},
		{precondition.Config, "hostname=box|uuid", true},
		{precondition.Cmdline, "quiet", true}, {precondition.Cmdline, "a=b", true},
		{precondition.Cmdline, "a", false},
		{precondition.Board, "qemu-x86_64", true}, {precondition.Board, "qemu", false},
		{precondition.Device, "platform:*", true}, {precondition.Device, "platform:not-there", false},
		{precondition.Device, "none:*", false}, {"unknown", "x", false},
	} {
		for _, not := range []bool{false, true} {
			c := precondition.Condition{Kind: tt.kind, Not: not, Value: tt.value}
			if holds, why := j.Holds(c); holds != (tt.want != not) || (why == "") != holds {
				t.Errorf("%s: holds %t (%q)", c, holds, why)
			}
		}
	}
}
