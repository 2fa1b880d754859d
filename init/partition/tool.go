package partition

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"resinos/services/proc"
)

// maxSaid bounds what is kept of a tool's output.
const maxSaid = 64 << 10

// RunTool runs a program to its end in a process that has no reaper: PID 1 while no service runs yet, or a small
// daemon.
func RunTool(ctx context.Context, argv []string) (status int, output string, err error) {
	reaper := proc.NewReaper()
	reaping, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = reaper.Run(reaping) // returns when it is stopped
	}()
	defer func() { stop(); <-ended }()
	from, to, err := os.Pipe()
	if err != nil {
		return -1, "", err
	}
	defer from.Close() // only read
	said := make(chan string, 1)
	go func() {
		var b bytes.Buffer
		_, _ = io.Copy(&b, io.LimitReader(from, maxSaid)) // what was said until then is worth as much
		_, _ = io.Copy(io.Discard, from)                  // it must not wait for us
		said <- b.String()
	}()
	st, err := reaper.Do(ctx, proc.Command{Path: argv[0], Args: argv, Env: []string{"PATH=/usr/sbin:/usr/bin"},
		Stdout: to, Stderr: to})
	_ = to.Close() // nothing was written by us
	output = <-said
	switch {
	case err != nil:
		return -1, output, err
	case !st.Wait.Exited():
		return -1, output, errors.New(st.String())
	}
	return st.Wait.ExitStatus(), output, nil
}
