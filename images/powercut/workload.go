package powercut

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// A Workload is something that a device does to its disk while it is recorded. It leaves the device running.
type Workload struct {
	Name     string
	About    string
	Careless bool // it breaks the rules on purpose, to see that the judges find out
	Do       func(ctx context.Context, s *Session) error
}

// Workloads lists them in the order in which a recording does them.
func Workloads() []Workload {
	return []Workload{
		{"first-boot", "the first boot, until a container has said something and the device is known by name and keys", false, firstBoot},
		{"config", "config.json changes, each written aside and renamed", false, changeConfig},
		{"keyfile", "a network profile appears, changes and goes", false, changeKeyfile},
		{"reboot", "the second boot", false, func(ctx context.Context, s *Session) error { return s.Reboot(ctx) }},
		{"careless", "config.json is truncated and written in place, as an editor does", true, carelessConfig},
	}
}

// identity are the facts that make a device the one it is.
var identity = map[string]string{
	FactMachineID: "cat /etc/machine-id",
	FactHostKey:   "cat /etc/ssh/hostkeys/* | md5sum | cut -d' ' -f1",
}

func firstBoot(ctx context.Context, s *Session) error {
	if err := s.await(ctx, "osctl boot --json", func(text string) bool {
		var report struct{ Milestones map[string]float64 }
		return json.Unmarshal([]byte(text), &report) == nil && report.Milestones["container_output"] > 0
	}); err != nil {
		return fmt.Errorf("wait for the first output of a container: %w", err)
	}
	return s.promiseIdentity(ctx)
}

// promiseIdentity takes what the device tells about itself as published: it may never be another.
func (s *Session) promiseIdentity(ctx context.Context) error {
	for fact, command := range identity {
		value, err := s.Run(ctx, command)
		if err != nil {
			return err
		}
		if err := s.Promise(fact, value); err != nil {
			return err
		}
	}
	return nil
}

// await repeats a command until its output is as wanted.
func (s *Session) await(ctx context.Context, command string, done func(string) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, fmt.Errorf("not within %v", bootTimeout))
	defer cancel()
	for {
		text, err := s.Run(ctx, command)
		if err == nil && done(text) {
			return nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %q, %v", context.Cause(ctx), text, err)
		}
	}
}

// change promises that a fact is old or new while a command runs, and new afterwards.
func (s *Session) change(ctx context.Context, fact, before, after, command string) error {
	if err := s.Promise(fact, before, after); err != nil {
		return err
	}
	if _, err := s.Run(ctx, command); err != nil {
		return err
	}
	return s.Promise(fact, after)
}

// aside is the shell's way to replace a file: busybox' sync FILE is fsync(2).
func aside(file, content string) string {
	return fmt.Sprintf("set -e; printf %%s '%s' > %[2]s.tmp; sync %[2]s.tmp; mv %[2]s.tmp %[2]s; sync", content, file)
}

const configPath = "/mnt/boot/config.json"

func configText(board, hostname string) string {
	return fmt.Sprintf(`{ "deviceType": "%s", "hostname": "%s", "filler": "%s" }`, board, hostname, strings.Repeat(hostname+" ", 150))
}

func changeConfig(ctx context.Context, s *Session) error {
	before := ""
	for _, name := range []string{"cut-one", "cut-two", "cut-three"} {
		if err := s.change(ctx, FactHostname, before, name, aside(configPath, configText(s.options.Board.Name, name))); err != nil {
			return err
		}
		before = name
	}
	return nil
}

func carelessConfig(ctx context.Context, s *Session) error {
	before, err := s.Run(ctx, `sed -n 's/.*"hostname": "\([^"]*\)".*/\1/p' `+configPath)
	if err != nil {
		return err
	}
	command := fmt.Sprintf("printf %%s '%s' > %s; sync", configText(s.options.Board.Name, "cut-careless"), configPath)
	return s.change(ctx, FactHostname, before, "cut-careless", command)
}

func changeKeyfile(ctx context.Context, s *Session) error {
	file := "/etc/NetworkManager/system-connections/office"
	before := ""
	for _, text := range []string{"[connection]\nid=office\n", "[connection]\nid=office\ntype=wifi\n"} {
		if err := s.change(ctx, FactKeyfile, before, digest([]byte(text)), aside(file, text)); err != nil {
			return err
		}
		before = digest([]byte(text))
	}
	return s.change(ctx, FactKeyfile, before, "", "rm "+file+"; sync")
}
