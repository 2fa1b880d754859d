// Package compose owns the program that loads the compose files of one app: it asks for the files on its standard
// output, reads them from its standard input, prints the typed app, and ends. The manager starts it (containers/load)
// when a file has changed. It is no part of the engine, because the loader's JSON schema costs 15 ms at every start.
// Before it reads a byte it gives up its rights: it runs as nobody, its root is an empty file system in memory, it sees
// neither a network nor other processes, and its memory and processor time are bounded. Read Main first.
package compose

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"resinos/containers/app"
	"resinos/containers/composefile"
	"resinos/containers/load"
	"resinos/services/confine"
)

// Main is the program: args are those after its name, the result is the exit status: 0 done, 1 failed, 2 wrong usage,
// or what confine.Adopt returns.
func Main(args []string) int {
	flags := flag.NewFlagSet("compose", flag.ContinueOnError)
	name := flags.String("app", "", "name of the app")
	dir := flags.String("dir", "", "its directory on the device, an absolute path")
	if err := flags.Parse(args); err != nil {
		return 2 // it has printed what is wrong
	}
	if *name == "" || *dir == "" {
		fmt.Fprintln(os.Stderr, "compose: the manager starts this program; -app and -dir are needed")
		return 2
	}
	if err := retire(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "compose:", err)
		return 1
	}
	if code := confine.Adopt(); code != 0 {
		return code
	}
	if err := run(*name, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "compose:", err)
		return 1
	}
	return 0
}

const (
	// nobody is the number of the user that owns nothing.
	nobody = 65534
	// scratch is where the empty root lies: a directory that every system has, and that this program does not need.
	scratch = "/proc"
	// room is how much of the app's files is kept there.
	room = "size=4m,nr_inodes=2k,mode=0777"
)

// retire takes the device out of this process's sight and makes it nobody. Who is not root, as in tests, works in a new
// directory as it is.
func retire(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	// When memory runs out, this process ends before the manager, in whose group it is.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keep mounts apart: %w", err)
	}
	if err := unix.Mount("tmpfs", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, room); err != nil {
		return fmt.Errorf("mount an empty root: %w", err)
	}
	if err := errors.Join(unix.Chdir(scratch), unix.Chroot(".")); err != nil {
		return fmt.Errorf("enter the empty root: %w", err)
	}
	unix.Umask(0o077)
	if err := errors.Join(unix.Setgroups(nil), unix.Setresgid(nobody, nobody, nobody),
		unix.Setresuid(nobody, nobody, nobody)); err != nil {
		return fmt.Errorf("become nobody: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chdir(dir)
}

func run(name, dir string) error {
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	var broken error
	read := func(file string) ([]byte, error) {
		var reply load.Reply
		err := out.Encode(load.Message{Read: file})
		if err == nil {
			err = in.Decode(&reply)
		}
		switch {
		case err != nil:
			broken = err
			return nil, err
		case reply.Absent:
			return nil, fs.ErrNotExist
		case reply.Error != "":
			return nil, errors.New(reply.Error)
		}
		return reply.Content, nil
	}
	a, warnings, err := composefile.Load(context.Background(), name, dir, read)
	if broken != nil {
		return broken
	}
	r := load.Result{App: a, Warnings: warnings}
	var faults app.Faults
	if errors.As(err, &faults) {
		r.Faults = faults
	} else if err != nil {
		return err
	}
	return out.Encode(load.Message{Done: &r})
}
