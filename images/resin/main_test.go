package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func resin(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string // on stdout or stderr
	}{
		{nil, 0, "resin build --board"},
		{[]string{"boards"}, 0, "qemu-x86_64"},
		{[]string{"version"}, 0, "resinOS"},
		{[]string{"build", "--help"}, 0, "resin build --board qemu-arm64"},
		{[]string{"no-such-command"}, 2, "no-such-command"},
		{[]string{"boards", "extra"}, 2, "takes 0 arguments"},
		{[]string{"boards", "--colour"}, 2, "resin boards --help"},
		{[]string{"build"}, 2, "--board and -o"},
		{[]string{"bsp", "lock"}, 2, "takes 1 arguments"},
		{[]string{"bsp", "lock", "toaster"}, 1, "qemu-arm64"},
		{[]string{"bsp", "lock", "qemu-arm64", "--tree", "/nowhere"}, 2, "--tree"},
		{[]string{"inspect", "/no/such/file"}, 1, "/no/such/file"},
		{[]string{"build", "--board", "toaster", "-o", "x"}, 1, "toaster"},
	} {
		code, out, errs := resin(t, c.args...)
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("resin %q = %d %q %q, want %d and %q", c.args, code, out, errs, c.code, c.want)
		}
		if code != 0 && out != "" {
			t.Errorf("resin %q failed and wrote %q to stdout", c.args, out)
		}
	}
}

func TestBoardsAsJSON(t *testing.T) {
	_, out, _ := resin(t, "boards", "--json")
	var rows []struct{ Name, Arch, Description string }
	if err := json.Unmarshal([]byte(out), &rows); err != nil || len(rows) < 2 || rows[0].Arch == "" {
		t.Errorf("boards --json = %q, %v", out, err)
	}
}

// TestEveryCommandHelps wants a summary and an example for each command.
func TestEveryCommandHelps(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s has no summary or no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root())
}

// TestRunLeavesTheImageAlone: what a device writes goes into a file only when that is asked for.
func TestRunLeavesTheImageAlone(t *testing.T) {
	for _, keep := range []bool{false, true} {
		o := runFlags{keep: keep, disks: []string{"more.img"}}.options("my.img")
		if o.Snapshot == keep || len(o.Disks) != 1 || o.Disks[0].Snapshot == keep {
			t.Errorf("keep %t: %+v", keep, o)
		}
	}
	if flag := runCommand().Flags().Lookup("keep"); flag == nil || flag.DefValue != "false" {
		t.Errorf("--keep is %+v", flag)
	}
}
