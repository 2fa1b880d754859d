package configuration

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/mounts/testenv"
	"resinos/services/config"
	"resinos/services/settings"
	"resinos/services/shipped"
)

// configured is a root with a config.json that has been applied.
func configured(t *testing.T, file string) string {
	t.Helper()
	root := t.TempDir()
	path := filepath.Join(root, config.Path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	s := config.InForce(config.Load(path), strings.Repeat("0123456789abcdef", 2))
	published := filepath.Join(root, settings.Path)
	before := settings.Settings{Values: map[string]settings.Value{"hostname": {JSON: json.RawMessage(`"before"`)}}}
	_, err := settings.Publish(published, s)
	err = errors.Join(err,
		settings.Take(published, "init", before, []string{"hostname"}, time.Second, nil),
		settings.Take(published, "configd", s, []string{"hostname", "uuid"}, 30*time.Second, nil),
		settings.Take(published, "netd", s, []string{"dnsServers"}, 31*time.Second, nil),
		settings.Take(published, "netd", before, []string{"hostname"}, 31*time.Second, nil),
		settings.Take(published, "sshd", s, []string{"os.sshKeys"}, 31*time.Second,
			errors.New("key 1: ssh: no key found\x1b")))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// synctested runs a test of a time that nobody has to wait for.
func synctested(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// TestConfigSetAwaits: set returns when its value is in force, or says that it is not; get gives the new value in any
// case.
func TestConfigSetAwaits(t *testing.T) {
	const get = "osctl config get hostname"
	synctested(t, "applied", func(t *testing.T) {
		root := configured(t, `{"hostname":"old"}`)
		path := filepath.Join(root, config.Path)
		published := filepath.Join(root, settings.Path)
		before := time.Now()
		go func() { // configd, two seconds later
			time.Sleep(2 * time.Second) // sleep: of synctest
			settings.Publish(published, config.InForce(config.Load(path), strings.Repeat("0123456789abcdef", 2)))
		}()
		code, out, talk := osctlConfig(t, root, "set", "hostname", "new")
		if took := time.Since(before); code != cli.ExitDone || took < 2*time.Second || took > 3*time.Second ||
			!strings.Contains(out, "to see its effect") {
			t.Errorf("after %v: %d, %s%s", took, code, out, talk)
		}
		if code, out, talk := osctlConfig(t, root, "get", "hostname"); code != cli.ExitDone || out != "new\n" ||
			talk != "" {
			t.Errorf("%s: %d, %s%s", get, code, out, talk)
		}
	})
	synctested(t, "not applied", func(t *testing.T) {
		root := configured(t, `{"hostname":"old"}`)
		if code, out, talk := osctlConfig(t, root, "set", "hostname", "new"); code != cli.ExitDone ||
			!strings.Contains(out, "not in force yet; try: osctl status configd") {
			t.Errorf("%d, %s%s", code, out, talk)
		}
		if code, out, talk := osctlConfig(t, root, "get", "hostname"); code != cli.ExitDone || out != "new\n" ||
			!strings.Contains(talk, "not in force yet") {
			t.Errorf("%s: %d, %s%s", get, code, out, talk)
		}
	})
}

// TestDefaultNameServer: it is told as applied only where it is asked.
func TestDefaultNameServer(t *testing.T) {
	root := configured(t, `{}`)
	file := filepath.Join(root, "run/resinos/name-servers")
	for text, want := range map[string]string{
		"search home\nnameserver 8.8.8.8\n":            "applied by netd",
		"nameserver 192.0.2.1\n# nameserver 8.8.8.8\n": "not used: a lease has name servers",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, out, _ := osctlConfig(t, root)
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, "dnsServers") && !strings.Contains(line, want) {
				t.Errorf("with %q: %s", text, line)
			}
		}
	}
}

// TestDaemonsAreServices: who takes a key can be looked at, and started.
func TestDaemonsAreServices(t *testing.T) {
	files, err := shipped.Variant("development")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range config.Keys() {
		if k.Daemon != "" && !slices.ContainsFunc(files, func(f shipped.File) bool { return f.Spec.Name == k.Daemon }) {
			t.Errorf("%s is taken by %s, which is no service", k.Name, k.Daemon)
		}
	}
}

// osctlConfig runs osctl config.
func osctlConfig(t *testing.T, root string, args ...string) (code int, out, talk string) {
	t.Helper()
	place := clitest.Place{
		Main: clitest.Commands(map[string]cli.Run{"config": Configure}), Root: root, Uptime: 100 * time.Second,
	}
	code, out, talk = place.Do(t, append([]string{"config"}, args...)...)
	return code, out, strings.ReplaceAll(talk, root, "")
}

const someConfig = `{"hostname":"box","deviceType":"qemu","apiKey":"topsecret","country":"de","listenPort":"x",` +
	`"os":{"sshKeys":["bad"]},"mine\u001b":{"a":1},"persistentLogging":true}`

func TestConfigShown(t *testing.T) {
	root := configured(t, someConfig)
	_, text, talk := osctlConfig(t, root)
	_, asJSON, _ := osctlConfig(t, root, "--json")
	testenv.Golden(t, "config.golden", text+talk+"\n"+asJSON)
	if strings.Contains(text+asJSON, "topsecret") || strings.Contains(text, "\x1b") {
		t.Error("a secret or a stranger's escape is shown")
	}
	if _, out, _ := osctlConfig(t, root, "get", "apiKey"); out != "topsecret\n" {
		t.Errorf("asked for, it is %q", out)
	}
	if _, all, _ := osctlConfig(t, root, "--all"); !strings.Contains(all, "pubnubPublishKey") {
		t.Errorf("--all leaves out:\n%s", all)
	}
}

func TestConfigBroken(t *testing.T) {
	root := configured(t, someConfig)
	path := filepath.Join(root, config.Path)
	same := func(now config.Loaded) (*config.Choice, error) {
		return &config.Choice{File: now.Document, Copy: now.Document}, nil
	}
	if _, err := (config.Store{Path: path}).Settle(same); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("{\x1b"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := settings.Publish(filepath.Join(root, settings.Path),
		config.InForce(config.Load(path), "")); err != nil {
		t.Fatal(err)
	}
	_, text, _ := osctlConfig(t, root)
	if first, _, _ := strings.Cut(text, "KEY"); !strings.Contains(first, "last good copy is in force") ||
		!strings.Contains(first, "osctl config restore") || strings.Contains(text, "\x1b") {
		t.Errorf("it is told as\n%s", text)
	}
	if code, _, talk := osctlConfig(t, root, "set", "hostname", "new"); code != cli.ExitFailed ||
		!strings.Contains(talk, "not overwritten") || !strings.Contains(talk, "config restore") {
		t.Errorf("set gives %d, %s", code, talk)
	}
	if code, out, talk := osctlConfig(t, root, "restore"); code != cli.ExitDone {
		t.Errorf("restore gives %d, %s%s", code, out, talk)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != someConfig {
		t.Errorf("restored is %s, %v", got, err)
	}
	if code, _, talk := osctlConfig(t, root, "restore"); code != cli.ExitFailed ||
		!strings.Contains(talk, "it is good") {
		t.Errorf("restoring a good file gives %d, %s", code, talk)
	}
}

func TestConfigChanged(t *testing.T) {
	changed := []struct {
		args  string
		code  int
		said  string // of both outputs
		after string // of the file; empty: as it was
	}{
		{"set hostname kitchen", cli.ExitDone, `set hostname to "kitchen"`, `{"x":1,"hostname":"kitchen"}`},
		{"set -n hostname kitchen", cli.ExitDone, `set hostname to "kitchen"`, ""},
		{"set hostname a_b", cli.ExitUsage, "not a host name", ""},
		{"set dnsServers dns.example", cli.ExitUsage, "addresses in numbers", ""},
		{"set hostnam kitchen", cli.ExitUsage, "did you mean hostname?", ""},
		{"set --any-key mine 5", cli.ExitDone, "set mine to 5", `{"x":1,"hostname":"old","mine":5}`},
		{"set os.sshKeys key", cli.ExitDone, "", `{"x":1,"hostname":"old","os":{"sshKeys": ["key"]}}`},
		{"set --any-key x.y 5", cli.ExitFailed, "x is there and no object", ""},
		{"set --any-key a..b 5", cli.ExitUsage, "is no key", ""},
		{"set apiKey s3cret", cli.ExitDone, "set apiKey to the given value",
			`{"x":1,"hostname":"old","apiKey":"s3cret"}`},
		{"set hostname", cli.ExitUsage, "needs 2 arguments", ""},
		{"unset hostname", cli.ExitDone, "remove hostname", `{"x":1}`},
		{"unset -n hostname", cli.ExitDone, "remove hostname", ""},
		{"unset country", cli.ExitFailed, "not in config.json", ""},
		{"unset uuid", cli.ExitUsage, "identity", ""},
		{"get hostname", cli.ExitDone, "old\n", ""},
		{"get x", cli.ExitDone, "1\n", ""},
		{"get listenPort", cli.ExitDone, "48484\n", ""},
		{"get country", cli.ExitFailed, "not set", ""},
		{"lose", cli.ExitUsage, "no command \"lose\" of config", ""},
	}
	for _, tt := range changed {
		synctested(t, tt.args, func(t *testing.T) { // nobody applies the change: set waits for it as long as it does
			const before = `{"x":1,"hostname":"old"}`
			root := configured(t, before)
			code, out, talk := osctlConfig(t, root, strings.Fields(tt.args)...)
			if code != tt.code || !strings.Contains(out+talk, tt.said) || strings.Contains(out+talk, "s3cret") {
				t.Errorf("gives %d, %s%s, want %d, %s", code, out, talk, tt.code, tt.said)
			}
			if tt.after == "" {
				tt.after = before
			}
			if got, err := os.ReadFile(filepath.Join(root, config.Path)); err != nil || string(got) != tt.after {
				t.Errorf("the file is %s, %v, want %s", got, err, tt.after)
			}
		})
	}
}
