// Package logs owns the command logs of osctl: what to show of the log, in which form, and which name was most likely
// meant when nothing has that name; and Line, one entry for people. logd finds the entries (services/log/query). Read
// Show first.
package logs

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/init/osctl/storage"
	"resinos/services/log/entry"
	"resinos/services/log/pipe"
	"resinos/services/log/query"
	when "resinos/services/moment"
)

// followLast is how many entries -f begins with when --lines does not say.
const followLast = 10

// The forms of -o.
const (
	formShort = "short"
	formJSON  = "json"
	formCat   = "cat"
)

// session is one call, with the methods of this package.
type session struct{ *cli.Session }

// request is what the flags of logs say.
type request struct {
	filter query.Filter
	last   int // --lines, negative if it was not given
	form   string
	boots  bool
	flush  bool
}

// Show runs the command logs.
func Show(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	r := request{last: -1, form: formShort}
	r.define(flags, time.Now().UTC())
	rest, err := cli.Parse(flags, bootValue(args))
	if err != nil {
		return err
	}
	for _, name := range rest {
		r.filter.Names = append(r.filter.Names, strings.ReplaceAll(name, "/", "."))
	}
	if r.flush {
		return cli.Unreachable(query.Flush(ctx, s.Log), "logd", "try: osctl status logd")
	}
	if r.boots {
		return s.logBoots(ctx, r.form == formJSON)
	}
	follow := r.filter.Follow
	r.filter.Last = beginning(r.last, follow)
	out := &logPrinter{
		session: s, out: bufio.NewWriterSize(s.Stdout, 16<<10), form: r.form, flush: follow,
		silent: slices.Clone(r.filter.Names),
	}
	if follow {
		if err := s.nobody(ctx, r.filter.Names); err != nil { // it may come yet
			fmt.Fprintf(s.Stderr, "osctl: %v\n", err)
		}
	}
	err = query.Query(ctx, s.Log, r.filter, out.print)
	if err := errors.Join(cli.Unreachable(err, "logd", "try: osctl status logd"), out.out.Flush()); err != nil {
		return err
	}
	if follow {
		return nil
	}
	if err := s.nobody(ctx, out.silent); err != nil {
		return err
	}
	if out.count == 0 {
		fmt.Fprintln(s.Stderr, "no entries")
	}
	return nil
}

// nobody says which of the names is that of no service and no app, and has never been said in the log: it is misspelt.
// When nobody can be asked, all of them may be right.
func (s *session) nobody(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	list, err := s.Services(ctx)
	if err != nil {
		return nil
	}
	var known []string
	for i := range list {
		known = append(known, list[i].Name)
	}
	apps, _ := os.ReadDir(filepath.Join(s.Root, storage.AppsDir)) // without apps there is none to be meant
	for _, app := range apps {
		known = append(known, app.Name())
	}
	var strangers []string
	for _, name := range names {
		app, _, _ := strings.Cut(name, ".")
		if slices.Contains(known, name) || slices.Contains(known, app) {
			continue
		}
		if !s.heard(ctx, query.Filter{Names: []string{name}, Last: 1}, nil) {
			strangers = append(strangers, name)
		}
	}
	if len(strangers) == 0 {
		return nil
	}
	said := map[string]bool{}
	s.heard(ctx, query.Filter{Boot: "0"}, said)
	hint := "try: osctl status, osctl top"
	if near := cli.Nearest(strangers[0], slices.Concat(known, slices.Sorted(maps.Keys(said)))); near != "" {
		hint = "did you mean " + screen.Escape(near) + "? try: osctl logs -u " + screen.Escape(near)
	}
	return cli.Advise(fmt.Errorf("no service, app or syslog tag is called %s",
		screen.Escape(strings.Join(strangers, ", "))), hint)
}

// heard reports whether the log has an entry that f wants, and collects who said it if names is not nil. A log that
// cannot be asked has told its fault before.
func (s *session) heard(ctx context.Context, f query.Filter, names map[string]bool) (any bool) {
	_ = query.Query(ctx, s.Log, f, func(e entry.Entry) error {
		any = true
		if names != nil {
			names[e.Name] = true
			if app, _, dotted := strings.Cut(e.Name, "."); dotted && e.Kind == pipe.Container {
				names[app] = true
			}
		}
		return nil
	})
	return any
}

func (r *request) define(flags *flag.FlagSet, now time.Time) {
	f := &r.filter
	flags.Func("u", "shows only the service, app, APP.SERVICE or syslog tag `NAME`; may be repeated",
		func(name string) error {
			f.Names = append(f.Names, name)
			return nil
		})
	flags.Func("p", "shows only `PRIORITY` and more urgent entries: emerg, alert, crit, err, warning, notice, info, "+
		"debug or 0 to 7", func(text string) error {
		p, err := parsePriority(text)
		f.Priority = &p
		return err
	})
	flags.BoolFunc("k", "shows only the kernel", func(string) error {
		f.Kinds = []string{entry.Kernel}
		return nil
	})
	flags.Func("b", "shows only `BOOT`: 0 (or nothing) for this one, -1 for the previous one, or the beginning "+
		"of its id; default all kept boots", func(text string) error {
		if f.Boot = text; !query.IsBoot(text) {
			return errors.New("not 0, -1 ... or the beginning of a boot id, see osctl logs --boots")
		}
		return nil
	})
	for name, bound := range map[string]**when.Moment{"since": &f.Since, "until": &f.Until} {
		flags.Func(name, "shows only entries "+name+" `TIME`: "+
			"\"2026-11-25 10:00\", 10:00, today, -5min, \"5m ago\" or boot+90s", func(text string) error {
			m, err := when.Parse(text, now)
			if *bound = &m; err != nil {
				return when.ErrForm
			}
			return nil
		})
	}
	lines := func(text string) (err error) {
		if r.last, err = strconv.Atoi(text); err != nil || r.last < 0 {
			return errors.New("not a number of entries")
		}
		return nil
	}
	flags.Func("lines", "shows only the last `N` entries (default all, 10 with -f)", lines)
	flags.Func("tail", "is another name of --lines `N`", lines)
	flags.BoolVar(&f.Follow, "f", false, "follows: continues with new entries")
	flags.Func("o", "prints in `FORM`: short, json (one entry on each line) or cat (messages only)",
		func(text string) error {
			if r.form = text; text != formShort && text != formJSON && text != formCat {
				return errors.New("not short, json or cat")
			}
			return nil
		})
	flags.BoolFunc("json", "prints JSON, as -o json does", func(string) error {
		r.form = formJSON
		return nil
	})
	flags.BoolVar(&r.boots, "boots", false, "lists the boots whose log is kept")
	flags.BoolVar(&r.flush, "flush", false, "writes the log to disk now, and waits until it is there")
}

// bootValue gives -b the value that it may lack: package flag knows no optional ones. What follows is the value if it
// can be one.
func bootValue(args []string) []string {
	var out []string
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...)
		}
		out = append(out, arg)
		if (arg == "-b" || arg == "--b") && (i+1 == len(args) || strings.HasPrefix(args[i+1], "-") &&
			!query.IsBoot(args[i+1])) {
			out = append(out, "0")
		}
	}
	return out
}

// beginning translates --lines, which is negative when it was not given, to Filter.Last.
func beginning(last int, follow bool) int {
	switch {
	case last > 0:
		return last
	case last == 0:
		return -1
	case follow:
		return followLast
	}
	return 0
}

// logBoots lists the boots whose log is kept.
func (s *session) logBoots(ctx context.Context, asJSON bool) error {
	list, err := query.Boots(ctx, s.Log)
	if err != nil {
		return cli.Unreachable(err, "logd", "try: osctl status logd")
	}
	if asJSON {
		return s.PrintJSON(list)
	}
	_, err = fmt.Fprint(s.Stdout, s.bootTable(list))
	return err
}

func (s *session) bootTable(list []query.Span) string {
	rows := [][]screen.Cell{screen.Header(">BOOT", "ID", "FIRST", "LAST")}
	for _, span := range list {
		rows = append(rows, []screen.Cell{
			{Text: strconv.Itoa(span.Number), Right: true}, {Text: screen.Escape(span.ID)},
			{Text: span.First.UTC().Format(time.DateTime)}, {Text: span.Last.UTC().Format(time.DateTime)},
		})
	}
	return s.Table(rows)
}

// priorities in the order of their numbers, as syslog(3) names them.
func priorities() []string {
	return []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}
}

func parsePriority(text string) (int, error) {
	if i := slices.Index(priorities(), text); i >= 0 {
		return i, nil
	}
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < len(priorities()) {
		return n, nil
	}
	return 0, fmt.Errorf("not one of %s", strings.Join(priorities(), ", "))
}

type logPrinter struct {
	*session
	out    *bufio.Writer
	buf    []byte
	form   string
	flush  bool // after each entry
	count  int
	silent []string // the names of the filter that nothing was printed of yet
}

func (l *logPrinter) print(e entry.Entry) error {
	l.count++
	if len(l.silent) > 0 {
		l.silent = slices.DeleteFunc(l.silent, func(name string) bool { return query.Covers(name, e.Name) })
	}
	var err error
	switch l.form {
	case formJSON:
		l.buf = append(e.AppendJSON(l.buf[:0]), '\n')
		_, err = l.out.Write(l.buf)
	case formCat:
		_, err = l.out.WriteString(l.cat(&e))
	default:
		_, err = l.out.WriteString(Line(&l.Screen, &e))
	}
	if err == nil && l.flush {
		err = l.out.Flush()
	}
	return err
}

// cat is the message alone: unchanged, but harmless on a terminal.
func (s *session) cat(e *entry.Entry) string {
	message := e.Message
	if screen.IsTerminal(s.Stdout) {
		message = screen.Escape(message)
	}
	if e.Cut {
		return message // it continues in the next entry
	}
	return message + "\n"
}

// Line is an entry for people: time, source, message.
func Line(s *screen.Screen, e *entry.Entry) string {
	source := screen.Escape(e.Name)
	if e.PID != 0 {
		source += "[" + strconv.Itoa(e.PID) + "]"
	}
	message := screen.Escape(e.Message)
	if e.Cut {
		message += "..." // it continues in the next entry
	}
	at := e.Time.UTC().Format("Jan 02 15:04:05.000")
	return s.Paint(screen.Dim, at) + " " + s.Paint(screen.Bold, source) + ": " + s.Paint(urgency(e.Priority), message) +
		"\n"
}

func urgency(priority int) screen.Colour {
	switch {
	case priority <= 3:
		return screen.Red
	case priority == 4:
		return screen.Yellow
	case priority == 7:
		return screen.Dim
	}
	return screen.Plain
}
