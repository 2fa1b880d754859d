package imagecommand

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"resinos/containers/appcontrol"
	"resinos/init/osctl/appcommand"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
)

// load hands an archive to the manager through a FIFO. So the manager needs to open nothing that the caller names, and
// standard input is nothing special.
func load(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	asJSON := flags.Bool("json", false, "prints JSON")
	docker := flags.Bool("docker", false, "takes over an image of Docker's daemon on this device")
	name, err := one(flags, args, "an archive, or - for standard input", "osctl load web.tar")
	if err != nil {
		return err
	}
	if *docker {
		return take(ctx, s, name, *asJSON)
	}
	in := os.Stdin
	if name != "-" {
		if in, err = os.Open(name); err != nil {
			return cli.Advise(err, "give a file of this device, or - for standard input")
		}
		defer in.Close() // only read
	}
	if name == "-" && screen.IsTerminal(in) {
		return cli.Misuse("standard input is a terminal", "try: docker save IMAGE | ssh root@DEVICE osctl load -")
	}
	end, err := feed(ctx, s, in)
	if err != nil {
		return err
	}
	return there(ctx, s, end, *asJSON, "is loaded")
}

// take makes an image of Docker's daemon one that apps can use.
func take(ctx context.Context, s *cli.Session, name string, asJSON bool) error {
	j, err := appcommand.Client(s).Begin(ctx, appcontrol.OpTake, appcontrol.Work{Image: name})
	if err != nil {
		return appcommand.Unreachable(err)
	}
	end, err := follow(ctx, s, j, "taking "+screen.Escape(name))
	if err != nil {
		return err
	}
	return there(ctx, s, end, asJSON, "is loaded")
}

// feed copies an archive into a FIFO that the manager reads, until both have ended.
func feed(ctx context.Context, s *cli.Session, in *os.File) (end appcontrol.Progress, err error) {
	dir, err := os.MkdirTemp("", "osctl-load-")
	if err != nil {
		return end, fmt.Errorf("make a directory for the archive: %w", err)
	}
	defer os.RemoveAll(dir) // it lies in RAM
	path := filepath.Join(dir, "archive")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return end, fmt.Errorf("make %s: %w", path, err)
	}
	fifo, err := os.OpenFile(path, os.O_RDWR, 0) // both ways: it does not wait for the manager
	if err != nil {
		return end, fmt.Errorf("open %s: %w", path, err)
	}
	j, err := appcommand.Client(s).Begin(ctx, appcontrol.OpLoad, appcontrol.Work{File: path})
	if err != nil {
		_ = fifo.Close() // nothing was written
		return end, appcommand.Unreachable(err)
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(fifo, in)
		copied <- errors.Join(err, fifo.Close()) // the last writer is the end of the file
	}()
	end, err = follow(ctx, s, j, "loading "+screen.Escape(in.Name()))
	if err != nil {
		_ = fifo.Close() // frees the copy, if nobody reads any more
		return end, err
	}
	select {
	case err = <-copied:
	default: // the manager has what it wants: more behind the archive is no part of it
		_ = fifo.Close()
	}
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	return end, err
}
