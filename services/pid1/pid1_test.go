package pid1

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"resinos/mounts/testenv"
	"resinos/services/control"
)

// TestWire: each method sends its operation with the arguments that servers take, and hands a refusal on.
func TestWire(t *testing.T) {
	testenv.NeedRoot(t, "a server that answers nobody else")
	sent := make(chan string, 1) // of one call
	handlers := map[string]control.Handler{}
	for _, op := range []string{
		OpStatus, OpShow, string(Start), string(Stop), string(Restart), string(Reload), OpKill, OpRescan, OpBoot,
		OpPlan, OpPing, OpMilestone, OpPower,
	} {
		handlers[op] = func(_ context.Context, args json.RawMessage) (any, error) {
			sent <- op + string(args)
			return nil, nil
		}
	}
	handlers[OpReexec] = func(_ context.Context, args json.RawMessage) (any, error) {
		return nil, &control.Error{Text: "not now " + string(args), Hint: "later"}
	}
	path := filepath.Join(t.TempDir(), "control.sock")
	socket, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	// ends with the test
	go control.Server{Socket: socket, Handlers: handlers, Log: slog.New(slog.DiscardHandler)}.Run(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	defer cancel()
	c := Client{Socket: path}
	for _, tt := range []struct {
		want string
		call func() error
	}{
		{"status", func() error { _, err := c.Status(ctx); return err }},
		{`show{"name":"a"}`, func() error { _, err := c.Show(ctx, "a"); return err }},
		{`start{"name":"a"}`, func() error { _, err := c.Change(ctx, Start, "a"); return err }},
		{`stop{"name":"a"}`, func() error { _, err := c.Change(ctx, Stop, "a"); return err }},
		{`restart{"name":"a"}`, func() error { _, err := c.Change(ctx, Restart, "a"); return err }},
		{`reload{"name":"a"}`, func() error { _, err := c.Change(ctx, Reload, "a"); return err }},
		{`kill{"name":"a"}`, func() error { _, err := c.Kill(ctx, Kill{Name: "a"}); return err }},
		{`kill{"name":"a","signal":"HUP","all":true}`,
			func() error { _, err := c.Kill(ctx, Kill{"a", "HUP", true}); return err }},
		{"rescan", func() error { _, err := c.Rescan(ctx); return err }},
		{"boot", func() error { _, err := c.Boot(ctx); return err }},
		{"plan", func() error { _, err := c.Plan(ctx); return err }},
		{"ping", func() error { return c.Ping(ctx) }},
		{`milestone{"name":"lease","at":1.5}`,
			func() error { return c.Milestone(ctx, "lease", 1500*time.Millisecond) }},
		{`power{"action":"poweroff"}`, func() error { return c.Power(ctx, Shutdown{Action: PowerOff}) }},
		{`power{"action":"reboot","force":true}`, func() error { return c.Power(ctx, Shutdown{Reboot, true}) }},
	} {
		err := tt.call()
		if got := testenv.Receive(t, "a request", sent); err != nil || got != tt.want {
			t.Errorf("sent %s, %v; want %s", got, err, tt.want)
		}
	}
	var refused *control.Error
	if err := c.Reexec(ctx, "why"); !errors.As(err, &refused) || !slices.Equal([]string{refused.Text, refused.Hint},
		[]string{`not now {"reason":"why"}`, "later"}) {
		t.Errorf("a refusal is %v", err)
	}
}
