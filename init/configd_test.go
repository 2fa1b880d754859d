package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"resinos/init/configd"
	"resinos/services/spec"
	"resinos/services/supervise"
)

// TestJudge: what PID 1 is asked to do counts by what its services do, also where the copy from before knows nothing of it, as on a
// device whose config.json was written before its first boot.
func TestJudge(t *testing.T) {
	conditions := configConditions([]spec.Spec{
		{Name: "door", Start: spec.OnDemand, Listen: spec.Listen{Sockets: []spec.Socket{{Network: "tcp", Address: ":1"}}}, Conditions: []spec.Condition{{Kind: spec.ConfigCondition, Value: "keys"}}},
		{Name: "hourly", Start: spec.OnDemand, Conditions: []spec.Condition{{Kind: spec.ConfigCondition, Value: "keys"}}}, // judged at its hour
		{Name: "masked", Start: spec.AtBoot, Masked: true, Conditions: []spec.Condition{{Kind: spec.ConfigCondition, Value: "keys"}}},
		{Name: "path", Start: spec.AtBoot, Conditions: []spec.Condition{{Kind: spec.PathCondition, Value: "/x"}}},
	})
	if got := fmt.Sprint(conditions); got != "[{door keys  false false}]" {
		t.Fatalf("conditions = %s", got)
	}
	none, keys := configd.Facts{}, configd.Facts{"keys": "one"}
	for _, tt := range []struct {
		name        string
		before, now configd.Facts
		state, want string
	}{
		{"the keys go", keys, none, "armed", "status rescan stop:door start:door"},
		{"the keys go, which nobody knew of", none, none, "up", "status rescan stop:door start:door"},
		{"the keys come", none, keys, "skipped", "status rescan start:door"},
		{"the keys come, as the copy says already", keys, keys, "skipped", "status rescan start:door"},
		{"other keys", keys, configd.Facts{"keys": "two"}, "armed", "status rescan"},
		{"something else", keys, configd.Facts{"keys": "one", "x": "y"}, "armed", "status"},
		{"nobody wants it", none, keys, "down", "status rescan"},
	} {
		var said []string
		err := judge(conditions, tt.before, tt.now, slog.New(slog.DiscardHandler), func(op string, args, reply any) error {
			word := op
			if a, ok := args.(map[string]string); ok {
				word += ":" + a["name"]
			}
			said = append(said, word)
			if list, ok := reply.(*[]supervise.ServiceStatus); ok {
				*list = []supervise.ServiceStatus{{Name: "door", State: tt.state, Wanted: tt.state != "down"}}
			}
			if op == "start" && tt.now["keys"] == "" {
				return errors.New("service door is skipped")
			}
			return nil
		})
		if got := strings.Join(said, " "); got != tt.want || err != nil {
			t.Errorf("%s: said %s, %v; want %s", tt.name, got, err, tt.want)
		}
	}
}
