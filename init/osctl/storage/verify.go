package storage

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/mounts/fingerprint"
)

// Verify compares the places with their fingerprints.
func Verify(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	asJSON := flags.Bool("json", false, "prints JSON")
	names, err := cli.Parse(flags, args)
	if err != nil {
		return err
	}
	places, err := wantedPlaces(names)
	if err != nil {
		return err
	}
	reports, bad := []fingerprint.Report{}, 0
	var faults []error
	for _, p := range places {
		r, err := s.verifyPlace(ctx, p)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		reports = append(reports, r)
		if !r.Good(p) {
			bad++
		}
	}
	if *asJSON {
		err = s.PrintJSON(reports)
	} else {
		_, err = io.WriteString(s.Stdout, s.verified(reports))
	}
	switch err := errors.Join(append(faults, err)...); {
	case err != nil:
		return cli.Advise(err, "the next update brings a missing list back")
	case bad > 0:
		return cli.Advise(fmt.Errorf("%s differ from the image", screen.Count(bad, "file system")),
			"if nobody changed the files on purpose, install the image again and replace the disk")
	}
	return nil
}

func wantedPlaces(names []string) ([]fingerprint.Place, error) {
	if len(names) == 0 {
		return fingerprint.Places(), nil
	}
	var places []fingerprint.Place
	for _, name := range names {
		p, found := fingerprint.Find(name)
		if !found {
			return nil, cli.Misuse(fmt.Sprintf("no fingerprint %q: NAME is root or boot", name), "try: osctl verify")
		}
		places = append(places, p)
	}
	return places, nil
}

func (s *session) verifyPlace(ctx context.Context, p fingerprint.Place) (fingerprint.Report, error) {
	root, done, err := openPlace(s.Root, p)
	if err != nil {
		return fingerprint.Report{}, err
	}
	r, err := fingerprint.Check(ctx, p, root, s.verifying(p.Name))
	return r, errors.Join(err, done())
}

// openPlace looks below what is attached on a device; below another root there are directories only.
func openPlace(root string, p fingerprint.Place) (fs.FS, func() error, error) {
	if root != "/" {
		return os.DirFS(filepath.Join(root, p.Target)), func() error { return nil }, nil
	}
	return fingerprint.Open(p.Target)
}

// verifying draws how far it is, on a terminal.
func (s *session) verifying(name string) func(done, total int) {
	if !s.Progress {
		return nil
	}
	last := -1
	return func(done, total int) {
		percent := 100 * done / max(total, 1)
		if percent == last {
			return
		}
		last = percent
		end := ""
		if done == total {
			end = "\r" + strings.Repeat(" ", len(name)+20) + "\r"
		}
		fmt.Fprintf(s.Stderr, "\rverify %s %3d %%%s", name, percent, end)
	}
}

// verified lists what is wrong, and how much is not.
func (s *session) verified(reports []fingerprint.Report) string {
	var b strings.Builder
	for _, r := range reports {
		for _, kind := range []struct {
			word  string
			tint  screen.Colour
			names []string
		}{{"differs", screen.Red, r.Different}, {"missing", screen.Red, r.Missing}, {"extra", screen.Yellow, r.Extra}} {
			for _, name := range kind.names {
				fmt.Fprintf(&b, "%s: %s /%s\n", s.Paint(kind.tint, kind.word), r.Place, screen.Escape(name))
			}
		}
		fmt.Fprintf(&b, "%s: %s as in the image, %s\n", r.Place, screen.Count(r.Files, "file"), screen.Size(r.Bytes)+
			"B")
	}
	return b.String()
}
