package composefile

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"resinos/containers/app"
)

// at is a fault at path. Of several files the one counts that has more of the path, and of equal ones the last.
func (l *load) at(path, text string) app.Fault {
	f := app.Fault{File: l.mainFile(), Path: path, Text: strings.ReplaceAll(text, "\n", " ")}
	best := 0
	for _, d := range l.documents {
		line, depth := d.Find(strings.Split(path, "."))
		if depth >= best && depth > 0 {
			f.File, f.Line, best = d.File, line, depth
		}
	}
	return f
}

func (l *load) mainFile() string {
	if len(l.documents) > 0 {
		return l.documents[0].File
	}
	return l.dir + "/" + Names[0]
}

func (l *load) fault(path, format string, args ...any) {
	l.faults = append(l.faults, l.at(path, fmt.Sprintf(format, args...)))
}

func (l *load) warn(path, format string, args ...any) {
	l.warnings = append(l.warnings, l.at(path, fmt.Sprintf(format, args...)))
}

var (
	// named finds the path that an error of compose-go is about.
	named   = regexp.MustCompile(`\b(?:services|networks|volumes|configs|secrets|include|models)(?:\.[A-Za-z0-9_-]+)+`)
	service = regexp.MustCompile(`service "([A-Za-z0-9._-]+)"`)
	// preamble is what compose-go puts before what is wrong.
	preamble = regexp.MustCompile(`\b(?:validating|failed to parse) \S+: `)
	inLine   = regexp.MustCompile(`line (\d+)`)
)

// faultsOf is an error of compose-go as faults, each on one line.
func (l *load) faultsOf(err error) app.Faults {
	var all app.Faults
	if errors.As(err, &all) {
		return all
	}
	text := err.Error()
	text = preamble.ReplaceAllString(text, "")
	text = strings.ReplaceAll(text, "false schema", "no key of compose: remove it, or correct its name")
	path := named.FindString(text)
	if m := service.FindStringSubmatch(text); path == "" && m != nil {
		path = "services." + m[1]
	}
	f := l.at(path, strings.TrimPrefix(strings.TrimPrefix(text, path), ": "))
	f.Text = strings.TrimSpace(f.Text)
	if m := inLine.FindAllStringSubmatch(text, -1); m != nil && f.Line == 0 {
		_, _ = fmt.Sscan(m[len(m)-1][1], &f.Line) // digits
	}
	return app.Faults{f}
}

func sorted(list app.Faults) app.Faults {
	slices.SortFunc(list, func(a, b app.Fault) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), strings.Compare(a.Path, b.Path),
			strings.Compare(a.Text, b.Text))
	})
	return slices.Compact(list)
}

// listen makes warnings of what compose-go logs, until the returned function is called: a variable that is not set.
func (l *load) listen() func() {
	logger := logrus.StandardLogger()
	before := logger.ReplaceHooks(logrus.LevelHooks{})
	out := logger.Out
	logger.SetOutput(discard{})
	logger.AddHook(hook{l})
	return func() { logger.ReplaceHooks(before); logger.SetOutput(out) }
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

type hook struct{ l *load }

func (hook) Levels() []logrus.Level { return []logrus.Level{logrus.WarnLevel, logrus.ErrorLevel} }

var unset = regexp.MustCompile(`^The "(.*)" variable is not set`)

func (h hook) Fire(e *logrus.Entry) error {
	text := e.Message
	if strings.Contains(text, "`version` is obsolete") {
		return nil // of no consequence, and in half of all files
	}
	if m := unset.FindStringSubmatch(text); m != nil {
		text = fmt.Sprintf("variable %s is not set: set it in .env, or write $$%s for a dollar sign", m[1], m[1])
	}
	h.l.warn("", "%s", text)
	return nil
}
