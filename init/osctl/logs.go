package osctl

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"resinos/services/logquery"
	"resinos/services/logring"
)

// followLast is how many entries -f begins with when -n does not say.
const followLast = 10

func logs(ctx context.Context, s *session, flags *flag.FlagSet, args []string) error {
	var filter logquery.Filter
	flags.Func("u", "only the service, app or APP.SERVICE `NAME`; may be given several times", func(name string) error {
		filter.Names = append(filter.Names, name)
		return nil
	})
	flags.Func("p", "only `PRIORITY` and what is more urgent: emerg, alert, crit, err, warning, notice, info, debug or 0 to 7", func(text string) error {
		p, err := parsePriority(text)
		filter.Priority = &p
		return err
	})
	kernel := flags.Bool("k", false, "only the kernel")
	last := -1
	flags.Func("n", "only the last `N` entries (default all, 10 with -f)", func(text string) (err error) {
		if last, err = strconv.Atoi(text); err != nil || last < 0 {
			return errors.New("not a number of entries")
		}
		return nil
	})
	follow := flags.Bool("f", false, "go on with what comes")
	asJSON := flags.Bool("json", false, "print JSON, one entry a line")
	rest, err := parse(flags, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return &usage{fmt.Sprintf("logs takes no argument %q", rest[0]), "try: osctl logs -u " + rest[0]}
	}
	if *kernel {
		filter.Kinds = []string{logring.Kernel}
	}
	filter.Follow, filter.Last = *follow, beginning(last, *follow)
	out := &logPrinter{session: s, out: bufio.NewWriterSize(s.Stdout, 16<<10), json: *asJSON, flush: *follow}
	err = logquery.Query(ctx, s.Log, filter, out.print)
	if err := errors.Join(unreachable(err, "logd", "try: osctl status logd"), out.out.Flush()); err != nil {
		return err
	}
	if out.count == 0 && !*follow {
		fmt.Fprintln(s.Stderr, "no entries")
	}
	return nil
}

// beginning translates -n, which is negative when it was not given, to Filter.Last.
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
	out   *bufio.Writer
	buf   []byte
	json  bool
	flush bool // after each entry
	count int
}

func (l *logPrinter) print(e logring.Entry) error {
	l.count++
	if l.json {
		l.buf = append(e.AppendJSON(l.buf[:0]), '\n')
		if _, err := l.out.Write(l.buf); err != nil {
			return err
		}
	} else if _, err := l.out.WriteString(l.short(&e)); err != nil {
		return err
	}
	if l.flush {
		return l.out.Flush()
	}
	return nil
}

// short is the form for people: time, source, message.
func (s *session) short(e *logring.Entry) string {
	source := escape(e.Name)
	if e.PID != 0 {
		source += "[" + strconv.Itoa(e.PID) + "]"
	}
	message := escape(e.Message)
	if e.Cut {
		message += "..." // it goes on in the next entry
	}
	return s.paint(dim, e.Time.UTC().Format("Jan 02 15:04:05.000")) + " " + s.paint(bold, source) + ": " + s.paint(urgency(e.Priority), message) + "\n"
}

func urgency(priority int) colour {
	switch {
	case priority <= 3:
		return red
	case priority == 4:
		return yellow
	case priority == 7:
		return dim
	}
	return plain
}
