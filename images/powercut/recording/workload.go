package recording

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
	Careless bool   // it breaks the rules on purpose, to see that the judges find out
	Free     bool   // it gives the device another identity
	Needs    string // a shell command that fails on a device that cannot do it: then it is left out
	Do       func(ctx context.Context, s *Session) error
}

// Workloads lists them in the order in which a recording does them.
func Workloads() []Workload {
	return []Workload{
		{
			Name:  "first-boot",
			About: "the first boot, until a container has said something and the device is known by name and keys",
			Do:    firstBoot,
		},
		{Name: "config", About: "config.json changes by osctl config", Needs: "osctl help config", Do: changeConfig},
		{Name: "editor", About: "config.json changes by hand: in place, and written aside and renamed",
			Needs: "osctl help config && test -x /usr/sbin/fsck.fat", Do: editConfig},
		{Name: "keyfile", About: "a network profile appears, changes and goes", Do: changeKeyfile},
		{Name: "reboot", About: "the second boot",
			Do: func(ctx context.Context, s *Session) error { return s.Reboot(ctx) }},
		{Name: "purge", About: "the state partition is purged", Free: true, Needs: "test -e /mnt/state" + FlagFile,
			Do: purgeState},
		{Name: "careless", About: "a file on resin-boot is written in place", Careless: true, Do: careless},
	}
}

// identity are the facts that make a device the one it is.
var identity = map[string]string{
	FactMachineID: "cat /etc/machine-id",
	FactUUID:      "osctl config get uuid 2>/dev/null || true",
	FactHostKey:   "cat /etc/ssh/hostkeys/* | md5sum | cut -d' ' -f1",
}

func firstBoot(ctx context.Context, s *Session) error {
	if err := s.await(ctx, "osctl boot --json", func(text string) bool {
		var report struct{ Milestones map[string]float64 }
		return json.Unmarshal([]byte(text), &report) == nil && report.Milestones["container_output"] > 0
	}); err != nil {
		return fmt.Errorf("wait for the first output of a container: %w", err)
	}
	// What a first boot does beside the containers, such as growing the disk, is to be done too.
	if err := s.Settle(ctx, 25*time.Second); err != nil {
		return err
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

// hostnameIn prints what config.json says itself, which on a new device is what its image says.
const hostnameIn = `sed -n 's/.*"hostname": *"\([^"]*\)".*/\1/p' ` + configPath

// changeConfig uses the device's own writer.
func changeConfig(ctx context.Context, s *Session) error {
	before, err := s.Run(ctx, hostnameIn)
	if err != nil {
		return err
	}
	for _, name := range []string{"cut-one", "cut-two"} {
		if err := s.change(ctx, FactHostname, before, name, "osctl config set hostname "+name); err != nil {
			return err
		}
		before = name
	}
	return nil
}

// editConfig does what editors do, in place and by a rename that nobody waits for. Each edit is over when the device
// has taken it.
func editConfig(ctx context.Context, s *Session) error {
	before, err := s.Run(ctx, hostnameIn)
	if err != nil {
		return err
	}
	// A late look of configd may have kept the change before the last as the copy; setting the same again keeps the
	// last.
	if err := s.Settle(ctx, 5*time.Second); err != nil {
		return err
	}
	if _, err := s.Run(ctx, "osctl config set hostname "+before); err != nil {
		return err
	}
	for _, edit := range [][2]string{
		{"cut-place", "cat /tmp/edit > " + configPath},
		{"cut-aside", "cp /tmp/edit " + configPath + ".tmp && mv " + configPath + ".tmp " + configPath},
	} {
		command := fmt.Sprintf(`sed 's/"%s"/"%s"/' %s > /tmp/edit && %s && sync
for n in $(seq 60); do [ "$(hostname)" = %s ] && sync && exit 0; sleep 1; done; exit 1`, before, edit[0], configPath,
			edit[1], edit[0])
		if err := s.change(ctx, FactHostname, before, edit[0], command); err != nil {
			return err
		}
		before = edit[0]
	}
	return nil
}

// careless writes a file in place: one write that must be found to be torn, lost and mixed.
func careless(ctx context.Context, s *Session) error {
	before := ""
	for _, text := range []string{strings.Repeat("old ", 300), strings.Repeat("new ", 600)} {
		after := Digest([]byte(text))
		if err := s.change(ctx, FactNote, before, after,
			fmt.Sprintf("printf %%s '%s' > /mnt/boot%s; sync", text, NoteFile)); err != nil {
			return err
		}
		before = after
	}
	return nil
}

// purgeState is the reference system's way: the owner removes the flag and reboots. From then on no part of the old
// content may be taken for good.
func purgeState(ctx context.Context, s *Session) error {
	write := fmt.Sprintf("for f in %s %s; do printf owner > $f; sync $f; done; sync", OwnersOne, OwnersTwo)
	if _, err := s.Run(ctx, write); err != nil {
		return err
	}
	if err := s.Promise(FactOwners, OwnersBoth, Purging, OwnersNone); err != nil {
		return err
	}
	for fact := range identity {
		if err := s.Promise(fact); err != nil {
			return err
		}
	}
	if _, err := s.Run(ctx, "rm /mnt/state"+FlagFile+"; sync"); err != nil {
		return err
	}
	if err := s.Promise(FactOwners, Purging, OwnersNone); err != nil {
		return err
	}
	if err := s.Reboot(ctx); err != nil {
		return err
	}
	if err := s.Promise(FactOwners, OwnersNone); err != nil {
		return err
	}
	return s.promiseIdentity(ctx)
}

func changeKeyfile(ctx context.Context, s *Session) error {
	file := "/etc/NetworkManager/system-connections/office"
	before := ""
	for _, text := range []string{"[connection]\nid=office\n", "[connection]\nid=office\ntype=wifi\n"} {
		if err := s.change(ctx, FactKeyfile, before, Digest([]byte(text)), aside(file, text)); err != nil {
			return err
		}
		before = Digest([]byte(text))
	}
	return s.change(ctx, FactKeyfile, before, "", "rm "+file+"; sync")
}
