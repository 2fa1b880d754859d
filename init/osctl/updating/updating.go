// Package updating owns the command update of osctl: it has the updater install a bundle or go back, and shows the
// state of an update. It reads this state itself, from the record, the boot variables and the command line of the
// kernel, so that it answers without the updater too. Read Update first.
package updating

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/init/updatecontrol"
	"resinos/services/control"
	"resinos/services/reference"
)

// session is one call, with the methods of this package.
type session struct {
	*cli.Session
	plan, json, again, older, noReboot, override bool
}

func (s *session) client() updatecontrol.Client {
	return updatecontrol.Client{Socket: filepath.Join(s.Root, updatecontrol.SocketPath)}
}

// Update runs the command update.
func Update(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{Session: call}
	flags.BoolVar(&s.plan, "n", false, "prints what it would do, and does nothing")
	flags.BoolVar(&s.json, "json", false, "prints JSON; of an installation one line for each change")
	flags.BoolVar(&s.again, "again", false, "installs even the version that runs, or one whose trial failed here")
	flags.BoolVar(&s.older, "older", false, "installs even an older version")
	flags.BoolVar(&s.noReboot, "no-reboot", false, "leaves the reboot to you")
	flags.BoolVar(&s.override, "override-locks", false, "reboots even while apps have update locks")
	rest, err := cli.Parse(flags, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return cli.Misuse("update takes one bundle, or one of status, history, rollback, confirm",
			"try: osctl help update")
	}
	switch rest[0] {
	case "status":
		return s.status(ctx)
	case "history":
		return s.history()
	case "rollback":
		return s.rollBack(ctx)
	case "confirm":
		return s.confirm(ctx)
	}
	return s.install(ctx, rest[0])
}

// silent makes an error of the connection say who does not answer.
func silent(err error) error {
	var refused *control.Error
	if err == nil || errors.As(err, &refused) {
		return err
	}
	return cli.Unreachable(err, "the updater", "try: osctl status "+updatecontrol.Service)
}

func (s *session) confirm(ctx context.Context) error {
	if s.plan {
		_, err := fmt.Fprintln(s.Stdout, "the device stays with the slot on trial")
		return err
	}
	return silent(s.client().Confirm(ctx))
}

func (s *session) rollBack(ctx context.Context) error {
	p, err := s.client().RollBack(ctx, updatecontrol.RollBack{Plan: s.plan, NoReboot: s.noReboot})
	if err != nil {
		return silent(err)
	}
	return s.printPlan(p)
}

func (s *session) printPlan(p updatecontrol.Planned) error {
	if s.json {
		return s.line(p)
	}
	for _, step := range p.Steps {
		if _, err := fmt.Fprintln(s.Stdout, screen.Escape(step)); err != nil {
			return err
		}
	}
	return nil
}

// line prints one line of JSON.
func (s *session) line(v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		_, err = s.Stdout.Write(append(text, '\n'))
	}
	return err
}

// whole returns a source as the updater takes it, whose directory is another one: a URL, an absolute path, or a
// reference with its scheme. A file that is there comes before a reference that reads like its name.
func whole(source string) (string, error) {
	for _, scheme := range []string{"http://", "https://", reference.Scheme} {
		if strings.HasPrefix(source, scheme) {
			return source, nil
		}
	}
	path, err := filepath.Abs(source)
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if _, err := reference.Parse(source); err == nil {
			return reference.Scheme + source, nil
		}
	}
	return path, nil
}

// install has the updater install a bundle, and shows how far it is. It may be interrupted: the updater goes on.
func (s *session) install(ctx context.Context, source string) error {
	source, err := whole(source)
	if err != nil {
		return err
	}
	p, err := s.client().Install(ctx, updatecontrol.Install{
		Source: source, Plan: s.plan, Again: s.again, Older: s.older, NoReboot: s.noReboot,
		Override: s.override,
	})
	if err != nil {
		return silent(err)
	}
	if s.plan {
		return s.printPlan(p)
	}
	if !s.json {
		fmt.Fprintf(s.Stdout, "installing version %s to slot %s, %s runs\n", screen.Escape(p.Version), p.Slot,
			screen.Escape(p.From))
	}
	return s.follow(ctx)
}

// often is the time between two looks at the progress.
const often = 500 * time.Millisecond

func (s *session) follow(ctx context.Context) error {
	tick := time.NewTicker(often)
	defer tick.Stop()
	var last updatecontrol.Progress
	for {
		now, err := s.client().Progress(ctx)
		if err != nil {
			return cli.Advise(fmt.Errorf("the updater does not answer any more: %w", err), "try: osctl update status")
		}
		if now != last {
			if err := s.show(now, last); err != nil {
				return err
			}
			last = now
		}
		if now.Phase.Ended() {
			return s.ended(now)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// show prints one moment: a line of JSON, a line that is written over on a terminal, else a line for each tenth.
func (s *session) show(now, last updatecontrol.Progress) error {
	switch {
	case s.json:
		return s.line(now)
	case now.Phase.Ended():
		return nil
	case now.Phase == updatecontrol.Locked && now.Locks != last.Locks:
		_, err := fmt.Fprintf(s.Stdout, "installed; the reboot waits for update locks: %s\n"+
			"remove them, or try: osctl reboot, which does not wait\n", screen.Escape(now.Locks))
		return err
	case now.Phase == updatecontrol.Locked:
		return nil
	case s.Progress:
		_, err := fmt.Fprintf(s.Stderr, "\r%s\x1b[K", moment(now))
		return err
	case now.Phase == last.Phase && tenth(now) == tenth(last):
		return nil
	}
	_, err := fmt.Fprintln(s.Stdout, moment(now))
	return err
}

func tenth(p updatecontrol.Progress) int64 {
	if p.Total == 0 {
		return 0
	}
	return p.Done * 10 / p.Total
}

func moment(p updatecontrol.Progress) string {
	if p.Total == 0 {
		return string(p.Phase)
	}
	text := fmt.Sprintf("%-8s %3d %%", p.Phase, p.Done*100/p.Total)
	if p.Phase != "write" {
		return text
	}
	return fmt.Sprintf("%s  %s kept, %s copied, %s fetched", text, screen.Size(p.Kept), screen.Size(p.Copied),
		screen.Size(p.Fetched))
}

func (s *session) ended(p updatecontrol.Progress) error {
	if s.Progress && !s.json {
		fmt.Fprint(s.Stderr, "\r\x1b[K")
	}
	if p.Phase != updatecontrol.Done {
		err := errors.New("the updater was started again meanwhile and does not know how it ended")
		if p.Error != "" {
			err = errors.New(p.Error)
		}
		if p.Hint == "" {
			p.Hint = "try: osctl update history"
		}
		return cli.Advise(err, p.Hint)
	}
	if s.json {
		return nil
	}
	next := "the next boot tries it: osctl reboot"
	if p.Reboot {
		next = "the device reboots"
	}
	_, err := io.WriteString(s.Stdout, fmt.Sprintf("installed: %s fetched; %s\n", screen.Size(p.Fetched), next))
	return err
}
