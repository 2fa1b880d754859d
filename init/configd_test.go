package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"resinos/init/configd"
	"resinos/services/pid1"
	"resinos/services/spec"
	"resinos/services/spec/precondition"
)

// TestJudge: what PID 1 is asked to do counts by what its services do, also where the copy from before knows nothing of
// it, as on a device whose config.json was written before its first boot.
func TestJudge(t *testing.T) {
	conditions := configConditions([]spec.Spec{
		{Name: "door", Start: spec.OnDemand, Listen: spec.Listen{Sockets: []spec.Socket{{Network: "tcp",
			Address: ":1"}}}, Conditions: []precondition.Condition{{Kind: precondition.Config, Value: "keys"}}},
		// judged at its hour
		{Name: "hourly", Start: spec.OnDemand, Conditions: []precondition.Condition{{Kind: precondition.Config,
			Value: "keys"}}},
		{Name: "masked", Start: spec.AtBoot, Masked: true,
			Conditions: []precondition.Condition{{Kind: precondition.Config, Value: "keys"}}},
		{Name: "path", Start: spec.AtBoot, Conditions: []precondition.Condition{{Kind: precondition.Path,
			Value: "/x"}}},
	})
	if got := fmt.Sprint(conditions); got != "[{door [{keys  false}] false}]" {
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
		p := &talker{state: tt.state, refuses: tt.now["keys"] == ""}
		err := judge(t.Context(), conditions, tt.before, tt.now, slog.New(slog.DiscardHandler), p)
		if got := strings.Join(p.said, " "); got != tt.want || err != nil {
			t.Errorf("%s: said %s, %v; want %s", tt.name, got, err, tt.want)
		}
	}
}

// talker is a PID 1 with one service, which notes what is asked of it.
type talker struct {
	state   string
	refuses bool // to start the service
	said    []string
}

func (p *talker) Status(context.Context) ([]pid1.ServiceStatus, error) {
	p.said = append(p.said, "status")
	return []pid1.ServiceStatus{{Name: "door", State: p.state, Wanted: p.state != "down"}}, nil
}

func (p *talker) Rescan(context.Context) (pid1.Rescanned, error) {
	p.said = append(p.said, "rescan")
	return pid1.Rescanned{}, nil
}

func (p *talker) Change(_ context.Context, op pid1.Change, name string) (st pid1.ServiceStatus, err error) {
	p.said = append(p.said, string(op)+":"+name)
	if op == pid1.Start && p.refuses {
		err = errors.New("service door is skipped")
	}
	return st, err
}
