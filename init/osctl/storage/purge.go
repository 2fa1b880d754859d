package storage

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/mounts/attach"
	"resinos/mounts/purge"
	"resinos/services/config"
)

// AppsDir is where the owner's apps lie on the device.
const AppsDir = "mnt/data/apps"

// what says what the owner loses.
var what = map[string]string{
	"state": "keys, services, network profiles, the machine id and everything else that was set up on the device " +
		"(not config.json, and so neither UUID nor host name)",
	"data": "all apps, their container images and their data, and logs kept on disk",
}

func Purge(_ context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	dry := flags.Bool("n", false, "prints what it would do, and does nothing")
	yes := flags.Bool("yes", false, "does not ask for confirmation")
	rest, err := cli.Parse(flags, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return cli.Misuse("purge needs a partition: state or data", "try: osctl help purge")
	}
	p, found := purge.Find(rest[0])
	if !found {
		return s.purgeApp(rest[0])
	}
	p.Target = filepath.Join(s.Root, p.Target)
	lost, err := s.purgeable(p)
	if err != nil {
		return err
	}
	if lost {
		return s.purgeLost(p, *dry, *yes)
	}
	if *dry {
		fmt.Fprintf(s.Stdout, "remove %s: the next boot removes %s\n", filepath.Join(p.Target, purge.Flag),
			what[p.Name])
		return nil
	}
	if purge.Wanted(p) {
		fmt.Fprintf(s.Stdout, "%s is marked already; try: osctl reboot\n", p.Name)
		return nil
	}
	if !*yes {
		if err := s.confirm(p.Name); err != nil {
			return err
		}
	}
	if err := purge.Mark(p); err != nil {
		return cli.Advise(err, "is the partition read-only? try: osctl space")
	}
	fmt.Fprintf(s.Stdout, "the next boot purges %s; try: osctl reboot\nto keep it after all: touch %s\n", p.Name,
		filepath.Join(p.Target, purge.Flag))
	if p.Name == "state" { // without the file, its copy would come back (configd)
		fmt.Fprintf(s.Stdout, "config.json stays; to remove the identity of the device as well: rm -f %s*\n",
			config.Path)
	}
	return nil
}

// purgeable reports whether a partition is lost: it could not be attached, and a tmpfs stands in for it. It refuses
// what would have no effect: the tmpfs is new with every boot, and so is a mark on another one.
func (s *session) purgeable(p purge.Place) (lost bool, err error) {
	mounts, err := s.mounts()
	if err != nil {
		return false, err
	}
	at := func(target string) (attach.Mount, bool) { return attach.At(mounts, target) }
	place, _ := purge.Find(p.Name)
	m, there := at(place.Target)
	switch {
	case !there:
		return false, cli.Advise(fmt.Errorf("purge %s: nothing is attached at %s", p.Name, place.Target),
			"osctl works on a resinOS device only")
	case m.Type != "tmpfs":
		return false, nil
	case place.Request == "":
		return false, cli.Advise(fmt.Errorf("purge %s: the partition could not be attached, and its replacement in "+
			"RAM is lost at the next boot", p.Name), "try: osctl boot")
	}
	if keeper, there := at(filepath.Dir(place.Request)); !there || keeper.Type == "tmpfs" {
		return false, cli.Advise(fmt.Errorf("purge %s: neither this partition nor the one that would keep the mark "+
			"could be attached", p.Name),
			"try: osctl reboot; if that does not help, write the image to the disk again")

	}
	return true, nil
}

// purgeLost marks a partition that could not be attached.
func (s *session) purgeLost(p purge.Place, dry, yes bool) error {
	p.Request = filepath.Join(s.Root, p.Request)
	switch {
	case dry:
		fmt.Fprintf(s.Stdout, "write %s: the next boot creates an empty file system in place of one that cannot be "+
			"attached, and removes %s\n", p.Request, what[p.Name])
		return nil
	case purge.Asked(p):
		fmt.Fprintf(s.Stdout, "%s is marked already; try: osctl reboot\n", p.Name)
		return nil
	case !yes:
		if err := s.confirm(p.Name); err != nil {
			return err
		}
	}
	if err := purge.Ask(p); err != nil {
		return cli.Advise(err, "is the partition full or read-only? try: osctl space")
	}
	fmt.Fprintf(s.Stdout, "%s could not be attached; the next boot creates it empty; try: osctl reboot\nto keep it "+
		"after all: rm %s\n", p.Name, p.Request)
	return nil
}

// confirm asks on a terminal. A script has to say --yes.
func (s *session) confirm(name string) error {
	if _, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS); err != nil || !s.Terminal {
		return cli.Misuse("purge "+name+" is not confirmed", "this removes "+what[name]+"; try: osctl purge --yes "+
			name)
	}
	fmt.Fprintf(s.Stdout, "The next boot removes %s.\nType %s to go on: ", what[name], name)
	line, err := bufio.NewReader(io.LimitReader(os.Stdin, 64)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read confirmation: %w", err)
	}
	if strings.TrimSpace(line) != name {
		return cli.Advise(errors.New("nothing was purged"), "try: osctl purge -n "+name)
	}
	return nil
}

// purgeApp says the truth: an app has no data of its own yet that outlives its containers.
func (s *session) purgeApp(name string) error {
	if strings.ContainsAny(name, "/\x00") || name == "." || name == ".." {
		return cli.Misuse(fmt.Sprintf("no partition or app is called %q", name),
			"try: osctl purge state, osctl purge data")
	}
	dir := filepath.Join(s.Root, AppsDir, name)
	if _, err := os.Stat(filepath.Join(dir, "compose.yaml")); err != nil {
		return cli.Misuse(fmt.Sprintf("no partition or app is called %q", name),
			"try: osctl purge state, osctl purge data")
	}
	return cli.Advise(fmt.Errorf("purge %s: apps have no volumes yet; what a container wrote goes with the container",
		screen.Escape(name)),
		fmt.Sprintf("to start it from its image again: mv %s /tmp && osctl restart manager && mv /tmp/%s %s && osctl "+
			"restart manager", screen.Escape(dir), screen.Escape(name), screen.Escape(filepath.Dir(dir))))

}
