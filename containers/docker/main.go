// Command dockerd serves Docker's API on a device for development: moby's own daemon, on the device's engine.
//
// PID 1 holds the sockets and starts the program at the first connection. It ends when for a while nobody has been
// connected and none of its containers runs. Called as "docker system dial-stdio" it joins its standard streams with
// the API, which is what the docker client of another machine runs over ssh. Read settings first.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/moby/moby/v2/daemon/command"
	"github.com/moby/sys/reexec"

	"resinos/containers/docker/gate"
)

func main() {
	if reexec.Init() { // moby calls its own program again, for what has to happen in another root
		return
	}
	var err error
	if filepath.Base(os.Args[0]) == "docker" {
		err = dialStdio(os.Args[1:])
	} else {
		err = serve(context.Background())
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}

// dialStdio joins the standard streams with the API.
func dialStdio(args []string) error {
	if !slices.Equal(args, []string{"system", "dial-stdio"}) {
		return errors.New("the device has no docker client: on your machine type docker -H ssh://root@DEVICE:22222 " +
			"ps, or see osctl ps for the device's apps")
	}
	conn, err := net.Dial("unix", Socket)
	if err != nil {
		return err
	}
	gate.Join(conn, stdio{})
	return nil
}

// stdio is the standard input and output as one stream.
type stdio struct{}

func (stdio) Read(p []byte) (int, error)  { return os.Stdin.Read(p) }
func (stdio) Write(p []byte) (int, error) { return os.Stdout.Write(p) }
func (stdio) CloseWrite() error           { return os.Stdout.Close() }
func (stdio) Close() error                { return errors.Join(os.Stdin.Close(), os.Stdout.Close()) }

// serve runs the daemon and the gate before it until one of them ends. The daemon ends at SIGTERM, by its own handler;
// the gate sends it to this process when nobody needs the daemon.
func serve(ctx context.Context) error {
	idle := flag.Duration("idle", 10*time.Minute, "ends after so long without a connection and a running container")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	listeners, err := inherited()
	if err != nil {
		return err
	}
	if err := forwarding(ctx); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGPIPE)
	os.Args = append(os.Args[:1], settings(flag.Args())...) // moby reads them there
	runner, err := command.NewDaemonRunner(os.Stdout, os.Stderr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	api := gate.NewAPI(inner)
	gated := make(chan error, 1)
	go func() {
		g := gate.Gate{Dial: api.Dial, Idle: *idle, Busy: api.Busy, Log: log}
		err := g.Run(ctx, listeners)
		if ctx.Err() == nil {
			log.Info("nobody needs docker's API", "after", *idle, "error", err)
			_ = syscall.Kill(os.Getpid(), syscall.SIGTERM) // it can always be sent to oneself
		}
		gated <- err
	}()
	go signs(ctx, api)
	err = runner.Run(context.WithoutCancel(ctx))
	cancel()
	return errors.Join(err, <-gated)
}

// inherited returns the listening sockets that PID 1 has handed over.
func inherited() ([]net.Listener, error) {
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 1 {
		return nil, errors.New("no socket to listen on: osctl start docker has PID 1 pass them")
	}
	_ = os.Unsetenv("LISTEN_FDS") // moby must not use them
	_ = os.Unsetenv("LISTEN_PID")
	var list []net.Listener
	for fd := 3; fd < 3+n; fd++ {
		f := os.NewFile(uintptr(fd), "socket "+strconv.Itoa(fd))
		l, err := net.FileListener(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("listen on inherited socket: %w", err)
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false) // it is PID 1's
		}
		list = append(list, l)
	}
	return list, nil
}

// signs sends a sign of life every 20 s while the daemon answers, until ctx is done.
func signs(ctx context.Context, api gate.API) {
	tick := time.NewTicker(20 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if api.Alive(ctx) {
				_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog) // without a socket nobody waits for it
			}
		}
	}
}
