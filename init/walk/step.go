// Package walk carries out the steps of a boot, one after the other: it times and records each, and catches its panics.
// It contains no step itself. Read Walker first.
package walk

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"resinos/services/bootreport"
	"resinos/services/boottime"
)

var resultOf = map[bootreport.Severity]string{bootreport.Fatal: bootreport.ResultFatal,
	bootreport.Degraded: bootreport.ResultDegraded, bootreport.Ignorable: bootreport.ResultIgnored}

// Action is one step of a boot.
type Action struct {
	Name     string
	Severity bootreport.Severity
	Do       func() error
}

// Walker carries actions out one after the other, with times and records.
type Walker struct {
	Stage  string
	Record *bootreport.Record
	Log    *slog.Logger
	After  func() // called after each step; may be nil
}

// Walk carries out all actions in order. It returns early, with the error of the step, only if a fatal one fails. A
// panic in a step counts as its failure.
func (w Walker) Walk(actions []Action) error {
	for i, a := range actions {
		start := boottime.Now()
		err := Shielded(a.Do)
		s := bootreport.Step{Stage: w.Stage, Name: a.Name, Start: bootreport.Seconds(start),
			Duration: bootreport.Seconds(boottime.Now() - start), Result: bootreport.ResultOK}
		if err != nil {
			s.Result, s.Error = resultOf[a.Severity], err.Error()
		}
		w.Record.Add(s)
		w.say(i+1, len(actions), s)
		if w.After != nil {
			w.After()
		}
		if err != nil && a.Severity == bootreport.Fatal {
			return fmt.Errorf("step %s: %w", a.Name, err)
		}
	}
	return nil
}

func (w Walker) say(number, total int, s bootreport.Step) {
	took := time.Duration(s.Duration * float64(time.Second)).Round(time.Millisecond)
	line := fmt.Sprintf("step %d/%d %s %v", number, total, s.Name, took)
	switch s.Result {
	case bootreport.ResultOK:
		w.Log.Info(line)
	case bootreport.ResultIgnored:
		w.Log.Info(line, "result", s.Result, "error", s.Error)
	case bootreport.ResultDegraded:
		w.Log.Warn(line, "result", s.Result, "error", s.Error)
	default:
		w.Log.Error(line, "result", s.Result, "error", s.Error)
	}
}

// Shielded turns a panic into an error with its place.
func Shielded(do func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return do()
}
