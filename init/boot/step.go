package boot

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"resinos/services/boottime"
)

// Severity says what the failure of a step means for the boot.
type Severity string

// The severities.
const (
	Fatal     Severity = "fatal"     // the boot cannot go on
	Degraded  Severity = "degraded"  // it goes on without, and a person should know
	Ignorable Severity = "ignorable" // it goes on, and nobody needs to act
)

var resultOf = map[Severity]string{Fatal: ResultFatal, Degraded: ResultDegraded, Ignorable: ResultIgnored}

// Action is one step of a boot to be done.
type Action struct {
	Name     string
	Severity Severity
	Do       func() error
}

// Walker carries actions out one after the other, timed and recorded.
type Walker struct {
	Stage  string
	Record *Record
	Log    *slog.Logger
	After  func() // called after each step; nil is nothing
}

// Walk does all actions in order. It returns early, with the step's error, only when a fatal one fails. A panic in
// a step counts as its failure.
func (w Walker) Walk(actions []Action) error {
	for i, a := range actions {
		start := boottime.Now()
		err := shielded(a.Do)
		s := Step{Stage: w.Stage, Name: a.Name, Start: seconds(start), Duration: seconds(boottime.Now() - start), Result: ResultOK}
		if err != nil {
			s.Result, s.Error = resultOf[a.Severity], err.Error()
		}
		w.Record.Add(s)
		w.say(i+1, len(actions), s)
		if w.After != nil {
			w.After()
		}
		if err != nil && a.Severity == Fatal {
			return fmt.Errorf("step %s: %w", a.Name, err)
		}
	}
	return nil
}

func (w Walker) say(number, total int, s Step) {
	took := time.Duration(s.Duration * float64(time.Second)).Round(time.Millisecond)
	line := fmt.Sprintf("step %d/%d %s %v", number, total, s.Name, took)
	switch s.Result {
	case ResultOK:
		w.Log.Info(line)
	case ResultIgnored:
		w.Log.Info(line, "result", s.Result, "error", s.Error)
	case ResultDegraded:
		w.Log.Warn(line, "result", s.Result, "error", s.Error)
	default:
		w.Log.Error(line, "result", s.Result, "error", s.Error)
	}
}

// shielded turns a panic into an error that carries its place.
func shielded(do func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return do()
}
