package condition

import (
	"os"
	"path/filepath"
	"testing"

	"resinos/services/spec"
)

func TestConditions(t *testing.T) {
	there := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(there, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	j := Judge{known: &facts{config: map[string]string{"hostname": "box", "developmentMode": "true"},
		cmdline: []string{"quiet", "a=b"}, board: "qemu-x86_64"}}
	for _, tt := range []struct {
		kind  spec.ConditionKind
		value string
		want  bool
	}{
		{spec.PathCondition, there, true}, {spec.PathCondition, there + "/not", false},
		{spec.ConfigCondition, "hostname", true}, {spec.ConfigCondition, "hostname=box", true},
		{spec.ConfigCondition, "hostname=bo", false},
		{spec.ConfigCondition, "developmentMode=true", true}, {spec.ConfigCondition, "uuid", false},
		{spec.CmdlineCondition, "quiet", true}, {spec.CmdlineCondition, "a=b", true},
		{spec.CmdlineCondition, "a", false},
		{spec.BoardCondition, "qemu-x86_64", true}, {spec.BoardCondition, "qemu", false}, {"unknown", "x", false},
	} {
		for _, not := range []bool{false, true} {
			c := spec.Condition{Kind: tt.kind, Not: not, Value: tt.value}
			if holds, why := j.Holds(c); holds != (tt.want != not) || (why == "") != holds {
				t.Errorf("%s: holds %t (%q)", c, holds, why)
			}
		}
	}
}
