package appcommand

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"resinos/containers/appcontrol"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/init/osctl/treetar"
)

// place is one side of cp: a path on the device or, with a container, in it; - is a tar stream.
type place struct{ container, path string }

// parsePlace reads CONTAINER:PATH, PATH or -. A path of the device that has a colon is written with a slash before it.
func parsePlace(arg string) place {
	container, inside, found := strings.Cut(arg, ":")
	if !found || container == "" || strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, ".") {
		return place{path: arg}
	}
	return place{container, inside}
}

// cp copies files into or out of a container that runs.
func cp(ctx context.Context, s *cli.Session, flags *flag.FlagSet, args []string) error {
	owners := flags.Bool("a", false, "keeps owners and set-user-id bits; without it the files are root's")
	names, err := cli.Parse(flags, args)
	if err == nil && len(names) != 2 {
		err = cli.Misuse("cp needs what to copy and where to", "try: osctl help cp")
	}
	if err != nil {
		return err
	}
	from, to := parsePlace(names[0]), parsePlace(names[1])
	if (from.container == "") == (to.container == "") {
		return cli.Misuse("cp copies between the device and one container",
			"try: osctl cp APP.SERVICE:/etc/hosts . ")
	}
	c := &copying{s: s, owners: *owners}
	if from.container != "" {
		return c.out(ctx, from, to.path)
	}
	return c.in(ctx, from.path, to)
}

type copying struct {
	s      *cli.Session
	owners bool
}

// root opens the root of a container that runs, as its programs see it, with volumes and all.
func (c *copying) root(ctx context.Context, name string) (*treetar.Root, error) {
	pid := func() (int, error) {
		list, err := Client(c.s).Inspect(ctx, appcontrol.Parse(name))
		switch {
		case err != nil:
			return 0, Unreachable(err)
		case len(list) != 1:
			return 0, cli.Misuse(fmt.Sprintf("%s is %d containers", name, len(list)), "say which: APP.SERVICE")
		case list[0].PID == 0:
			return 0, cli.Advise(fmt.Errorf("%s does not run", screen.Escape(list[0].ID)),
				"try: osctl start "+screen.Escape(list[0].ID))
		}
		return list[0].PID, nil
	}
	before, err := pid()
	if err != nil {
		return nil, err
	}
	r, err := treetar.OpenProcess(before)
	if err != nil {
		return nil, err
	}
	if now, err := pid(); err != nil || now != before { // else the number may be somebody else's by now
		return nil, errors.Join(err, r.Close(), fmt.Errorf("%s was started again: try once more", screen.Escape(name)))
	}
	return r, nil
}

// target says in which directory of a root a copy of what is called base lies, and how it is called there.
func target(r *treetar.Root, name, base string) (dir, as string, err error) {
	clean := path.Join("/", name)
	switch {
	case r.IsDir(clean):
		return clean, base, nil
	case strings.HasSuffix(name, "/") || base == ".":
		return "", "", fmt.Errorf("%s is no directory", screen.Escape(name))
	case !r.IsDir(path.Dir(clean)):
		return "", "", fmt.Errorf("there is no directory %s", screen.Escape(path.Dir(clean)))
	}
	return path.Dir(clean), path.Base(clean), nil
}

// baseOf is the last part of a path, or . for the content of a directory (PATH/.).
func baseOf(name string) string {
	if strings.HasSuffix(name, "/.") || name == "." {
		return "."
	}
	return path.Base(path.Join("/", name))
}

func (c *copying) out(ctx context.Context, from place, to string) error {
	r, err := c.root(ctx, from.container)
	if err != nil {
		return err
	}
	defer r.Close() // only read
	base := baseOf(from.path)
	if to == "-" {
		if c.s.Terminal {
			return cli.Misuse("standard output is a terminal", "try: osctl cp "+from.container+":PATH - | tar x")
		}
		return c.warn(r.Write(c.s.Stdout, from.path, base))
	}
	device, to, err := c.device(to)
	if err != nil {
		return err
	}
	defer device.Close() // only looked into
	return c.copy(r, from.path, base, device, to)
}

func (c *copying) in(ctx context.Context, from string, to place) error {
	r, err := c.root(ctx, to.container)
	if err != nil {
		return err
	}
	defer r.Close() // only looked into
	if from == "-" {
		if !r.IsDir(to.path) {
			return fmt.Errorf("%s is no directory of %s", screen.Escape(to.path), screen.Escape(to.container))
		}
		return r.Read(os.Stdin, to.path, c.owners)
	}
	device, absolute, err := c.device(from)
	if err != nil {
		return err
	}
	defer device.Close() // only read
	return c.copy(device, absolute, baseOf(from), r, to.path)
}

// device is the root of the device, and the whole path of a file of it.
func (c *copying) device(name string) (*treetar.Root, string, error) {
	absolute, err := filepath.Abs(name)
	if err != nil {
		return nil, "", err
	}
	if strings.HasSuffix(name, "/") {
		absolute += "/"
	}
	r, err := treetar.Open("/")
	return r, absolute, err
}

func (c *copying) copy(from *treetar.Root, name, base string, to *treetar.Root, dest string) error {
	if !from.Exists(name) {
		return fmt.Errorf("there is no %s", screen.Escape(name))
	}
	dir, as, err := target(to, dest, base)
	if err != nil {
		return err
	}
	read, write := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := c.warn(from.Write(write, name, as))
		write.CloseWithError(err)
		written <- err
	}()
	err = to.Read(read, dir, c.owners)
	read.CloseWithError(err) // the writer ends, if it has not
	if wrote := <-written; err == nil {
		err = wrote
	}
	return err
}

// warn says what was not copied.
func (c *copying) warn(others int, err error) error {
	if others > 0 {
		fmt.Fprintf(c.s.Stderr, "%s not copied: devices, sockets or FIFOs\n", screen.Count(others, "file"))
	}
	return err
}
