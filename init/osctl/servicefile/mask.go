package servicefile

import (
	"resinos/services/spec/definition"
	"resinos/services/spec/keys"

	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/BurntSushi/toml"

	"resinos/init/osctl/change"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/mounts/atomicfile"
)

// Mask runs the command mask.
func Mask(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	dry := flags.Bool("n", false, "prints what it would do, and does nothing")
	noStop := flags.Bool("no-stop", false, "leaves a running service alone until it ends")
	return s.masking(ctx, flags, args, true, dry, func(name string) error {
		if *noStop {
			return nil
		}
		return change.Stop(ctx, s.Session, name)
	})
}

// Unmask runs the command unmask.
func Unmask(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	dry := flags.Bool("n", false, "prints what it would do, and does nothing")
	return s.masking(ctx, flags, args, false, dry, func(name string) error {
		fmt.Fprintf(s.Stdout, "%s may start again; try: osctl start %s\n", name, name)
		return nil
	})
}

// masking writes the line into the owner's files, has PID 1 read them, and then does what follows for each service.
func (s *session) masking(ctx context.Context, flags *flag.FlagSet, args []string, masked bool, dry *bool,
	then func(name string) error) error {
	names, err := cli.Parse(flags, args)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return cli.Misuse(flags.Name()+" needs the name of a service", "try: osctl status")
	}
	list, err := s.Services(ctx)
	if err != nil {
		return err
	}
	if _, err := cli.Pick(list, names); err != nil {
		return err
	}
	for _, name := range names {
		if !keys.ValidName(name) { // it becomes a path
			return cli.NoService(list, name)
		}
		if *dry {
			fmt.Fprintf(s.Stdout, "%s service %s in %s/%s.toml, read the service files again\n",
				flags.Name(), name, cli.OwnerServices, name)
			continue
		}
		if err := s.writeMasked(name, masked); err != nil {
			return err
		}
	}
	if *dry {
		return nil
	}
	found, err := s.rescan(ctx)
	if err != nil {
		return err
	}
	for _, fault := range found.Faults {
		fmt.Fprintln(s.Stderr, s.Paint(screen.Red, "fault")+": "+screen.EscapeLines(fault))
	}
	for _, name := range names {
		if err := then(name); err != nil {
			return err
		}
	}
	return nil
}

// writeMasked changes the owner's file of a service. A file that has nothing left to say is removed.
func (s *session) writeMasked(name string, masked bool) error {
	path := filepath.Join(s.Root, cli.OwnerServices, name+".toml")
	before, err := cli.ReadBounded(path, definition.MaxSize)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cli.Advise(fmt.Errorf("mask %s: %w", name, err), "try: osctl check "+path)
	}
	shipped := isMasked([]byte(s.Read(filepath.Join(cli.ShippedServices, name+".toml"))))
	after, err := setMasked(before, masked, shipped)
	switch {
	case err != nil:
		return cli.Advise(fmt.Errorf("change %s: %w", path, err), "try: osctl check "+path)
	case bytes.Equal(before, after):
		return nil
	case len(after) == 0:
		err = os.Remove(path)
	default:
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = atomicfile.Write(path, after, 0o644)
		}
	}
	if err != nil {
		return cli.Advise(fmt.Errorf("change %s: %w", path, err), "is the state partition attached? try: osctl boot")
	}
	return nil
}

func isMasked(file []byte) bool {
	var said map[string]any
	_ = toml.Unmarshal(file, &said) // what a broken file says is not in force
	return said["masked"] == true
}

// errOdd is for files in which the line cannot be told apart from the rest.
var errOdd = errors.New("the line masked is written in a way that osctl does not change; edit it by hand")

// setMasked returns the file with the key masked as asked for and every other byte as it was. shipped tells that the
// image's file masks the service, so that only the owner's masked = false lifts it.
func setMasked(file []byte, masked, shipped bool) ([]byte, error) {
	var before, after map[string]any
	if err := toml.Unmarshal(file, &before); err != nil {
		return nil, err
	}
	if now, said := before["masked"]; said && now == masked || !said && shipped == masked {
		return file, nil
	}
	want := ""
	if masked {
		want = "masked = true"
	} else if shipped {
		want = "masked = false"
	}
	out := replaceMasked(string(file), want)
	// Read back what came of it: a string of several lines may hold what looks like the key.
	if err := toml.Unmarshal([]byte(out), &after); err != nil {
		return nil, errOdd
	}
	value, said := after["masked"]
	if said != (want != "") || said && value != masked {
		return nil, errOdd
	}
	delete(before, "masked")
	delete(after, "masked")
	if len(before)+len(after) > 0 && !reflect.DeepEqual(before, after) {
		return nil, errOdd
	}
	return []byte(out), nil
}

// replaceMasked puts want in the place of the line that sets masked, or above all others where a key belongs to no
// table.
func replaceMasked(file, want string) string {
	var b strings.Builder
	found := false
	top := true
	for line := range strings.Lines(file) {
		top = top && !strings.HasPrefix(strings.TrimSpace(line), "[")
		if found || !top || !setsMasked(line) {
			b.WriteString(line)
			continue
		}
		found = true
		end := line[len(strings.TrimRight(line, "\r\n")):]
		_, comment, commented := strings.Cut(line[:len(line)-len(end)], "#")
		switch {
		case commented && want != "":
			b.WriteString(want + " #" + comment + end)
		case commented:
			b.WriteString("#" + comment + end)
		case want != "":
			b.WriteString(want + end)
		}
	}
	if found || want == "" {
		return b.String()
	}
	return want + "\n" + b.String()
}

func setsMasked(line string) bool {
	key, _, set := strings.Cut(line, "=")
	key = strings.TrimSpace(key)
	return set && (key == "masked" || key == `"masked"` || key == `'masked'`)
}
