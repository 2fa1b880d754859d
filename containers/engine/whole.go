package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	containerd "github.com/containerd/containerd/v2/client"

	"resinos/containers/daemon"
	"resinos/containers/engineclient"
	"resinos/services/log/pipe"
	"resinos/services/notify"
)

const (
	// managerBeat is how often the main loop of the manager reports that it goes on, at least.
	managerBeat = time.Minute
	// managerLimit is how long it may be silent: 90 s later PID 1 ends this process, and starts it again.
	managerLimit = 3 * time.Minute
	// mostMemory bounds what this process has asked the kernel for and not given back. With many containers it takes a
	// tenth; above, something leaks, and it is ended like a process that hangs.
	mostMemory = 192 << 20
)

// runEngine runs containerd and the manager, which are started and killed together: the manager can do nothing without
// containerd, and the containers live on in their shims. The manager ends first, since it stops the containers when the
// device goes down.
func runEngine(ctx context.Context, env Env, args []string) error {
	c := daemon.Config{Log: env.Log, Alive: notify.Watched()}
	flags := flag.NewFlagSet("containerd", flag.ContinueOnError)
	flags.SetOutput(env.Stderr)
	flags.StringVar(&c.Root, "root", daemon.Root, "directory that persists")
	flags.StringVar(&c.State, "state", daemon.State, "directory of the running state")
	flags.StringVar(&c.Socket, "socket", daemon.Socket, "socket to serve")
	flags.StringVar(&c.CgroupRoot, "cgroup", engineclient.CgroupRoot, "parent of the containers' cgroups")
	flags.StringVar(&c.RuntimeRoot, "runtime-root", daemon.RuntimeRoot, "directory of the runtime's state")
	var own bool
	flags.BoolVar(&own, "manager-pipe", true, "whether the manager has a log pipe of its own")
	m := newManager(flags)
	if err := flags.Parse(args); err != nil {
		return errUsage
	}
	if own {
		defer m.ownLog(&env)()
	}
	inside, watched := make(chan containerd.Opt, 1), newLoop()
	c.Inside = func(o containerd.Opt) { inside <- o }
	c.Well = watched.well
	c.Ready = func() error {
		select {
		case <-m.watches:
		case <-ctx.Done(): // it ends before it was ready
		}
		return notify.Ready()
	}
	m.engine.Ready, m.c.Alive = inside, notify.Part(managerBeat, watched.beat)
	m.engine.RuntimeRoot, m.engine.CgroupRoot, m.root = c.RuntimeRoot, c.CgroupRoot, c.Root
	return both(ctx, func(ctx context.Context) error { return daemon.Run(ctx, c) },
		func(ctx context.Context) error { return m.run(ctx, env) })
}

// both runs the server until the client has ended, and ends the client when the server fails.
func both(ctx context.Context, server, client func(context.Context) error) error {
	served := make(chan error, 1)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	asking, end := context.WithCancelCause(ctx)
	go func() {
		err := server(serving)
		end(errors.Join(errors.New("containerd has ended"), err))
		served <- err
	}()
	err := client(asking)
	stop()
	return errors.Join(err, <-served)
}

// ownLog has the manager write to its own log pipe, which logd shows as that of the service manager, until the returned
// function is called.
func (m *manager) ownLog(env *Env) (done func()) {
	file, err := pipe.Open(m.engine.LogDir, pipe.Source{Kind: pipe.Service, Name: "manager", Stream: pipe.Stdout})
	if err != nil {
		env.Log.Warn("the manager logs as containerd does", "error", err)
		return func() {}
	}
	_, _ = file.Write(pipe.AppendPID(nil, os.Getpid())) // without it the lines only lack the pid
	env.Stderr, env.Log = file, slog.New(newPlain(file))
	return func() { _ = file.Close() } // nothing is buffered
}

// loop records when the main loop of the manager has last reported.
type loop struct {
	begun time.Time
	last  atomic.Int64 // nanoseconds after begun
}

func newLoop() *loop { return &loop{begun: time.Now()} }

func (l *loop) beat() { l.last.Store(int64(time.Since(l.begun))) }

// well returns why this process is to be started again.
func (l *loop) well() error {
	if silent := time.Since(l.begun) - time.Duration(l.last.Load()); silent > managerLimit {
		return fmt.Errorf("the manager hangs: its last round was %v ago", silent.Round(time.Second))
	}
	if used := memoryInUse(); used > mostMemory {
		return fmt.Errorf("the process uses %d bytes, more than %d: it leaks memory", used, mostMemory)
	}
	return nil
}

// memoryInUse is what the runtime of Go has from the kernel, in bytes.
func memoryInUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m) // runtime/metrics would add 60 kB to the program
	return m.Sys - m.HeapReleased
}
