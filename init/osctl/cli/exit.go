package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"resinos/init/osctl/screen"
	"resinos/services/control"
)

// The exit codes.
const (
	ExitDone   = 0
	ExitFailed = 1
	ExitUsage  = 2
	ExitNotUp  = 3 // status: a service that was named is not up
)

// Run carries out a command; args is what follows its name. Given -h it only defines its flags.
type Run func(ctx context.Context, s *Session, flags *flag.FlagSet, args []string) error

// Flags returns the empty set of flags that a Run takes.
func Flags(command string) *flag.FlagSet {
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // Exit prints the faults
	return flags
}

// Exit prints the error that a command ended with, if any, with what to type next, and returns the exit code.
func (s *Session) Exit(command string, err error) int {
	switch {
	case err == nil:
		return ExitDone
	case errors.Is(err, NotUp{}):
		return ExitNotUp
	}
	var ended Exit
	if errors.As(err, &ended) {
		return int(ended)
	}
	code, hint := ExitFailed, ""
	var wrong *Usage
	var failed *Failure
	var refused *control.Error
	switch {
	case errors.As(err, &wrong):
		code, hint = ExitUsage, wrong.Hint
	case errors.As(err, &failed):
		hint = failed.Hint
	case errors.As(err, &refused):
		hint = screen.EscapeLines(refused.Hint)
		err = errors.New(screen.EscapeLines(refused.Text))
	}
	if hint == "" {
		hint = "try: osctl help " + command
	}
	fmt.Fprintf(s.Stderr, "osctl: %v\n%s\n", err, hint)
	return code
}
