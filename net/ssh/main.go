// Package ssh owns the programs of the device's ssh server. sshd listens and serves connections (package sshd). "scp
// -O" and older clients start scp on the device (package scp). They are not part of init, so that PID 1 and the small
// daemons do not contain their code, for which each of their starts would pay: the program init/tools dispatches to
// them. Read Serve first.
package ssh

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"syscall"

	"resinos/net/scp"
	"resinos/net/sshconn"
	"resinos/net/sshd"
	"resinos/net/sshroot"
	"resinos/services/log/line"
	"resinos/services/notify"
	"resinos/services/settings"
)

// hostKeys is one of the persistent paths: the device keeps its host key.
const hostKeys = "/etc/ssh/hostkeys"

// Serve is sshd: it runs until SIGTERM, or is one of the two processes of a connection. args are those after the name.
// The result is the exit status: 0 done, 1 failed, 2 wrong usage.
func Serve(args []string) int {
	debug.FreeOSMemory()                   // what the other tools of the program have initialised and left
	if code := sshd.Confine(); code != 0 { // before a byte of the client is read
		return code
	}
	debug.SetGCPercent(50)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(line.New(os.Stderr, nil))
	err := listen(ctx, args, log)
	switch {
	case err == nil || errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		return 2
	}
	log.Error("daemon ended", "error", err)
	return 1
}

func listen(ctx context.Context, args []string, log *slog.Logger) error {
	cfg := sshd.Config{HostKeyDir: hostKeys, Settings: settings.Path, Log: log, Root: root}
	flags := flag.NewFlagSet("sshd", flag.ContinueOnError)
	one := flags.Bool("connection", false, "serve the connection that sshd hands over, and end")
	asRoot := flags.Bool("root", false, "act for the connection that sshd names, and end")
	flags.StringVar(&cfg.Addr, "listen", ":22222", "address to listen on, unless PID 1 does")
	flags.DurationVar(&cfg.Idle, "idle", 0, "`time` without a connection after which it ends, if PID 1 listens; 0 "+
		"is never")
	flags.StringVar(&cfg.HostKeyDir, "hostkeys", hostKeys, "directory of the host key")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // it has printed what is wrong
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "sshd: unexpected argument %q\n", flags.Arg(0))
		return flag.ErrHelp
	}
	switch {
	case *one:
		return sshd.Serve(ctx, sshconn.Config{Log: log})
	case *asRoot:
		return sshd.ServeRoot(ctx, sshroot.Config{Log: log})
	}
	var err error
	if cfg.Connection, err = sshd.Confined(connection); err != nil {
		return err
	}
	switch passed := notify.FromParent(os.Getenv, os.Getpid()); len(passed) {
	case 0:
	case 1:
		cfg.Passed = passed[0].FD
	default:
		return fmt.Errorf("serve ssh: %d sockets were passed: leave one in the service file's listen", len(passed))
	}
	return sshd.Run(ctx, cfg)
}

// root returns this program as root's process.
func root() *exec.Cmd { return &exec.Cmd{Path: "/proc/self/exe", Args: []string{"sshd", "--root"}} }

// connection returns this program as the process of a connection, even if its file has been replaced meanwhile.
func connection() *exec.Cmd {
	return &exec.Cmd{Path: "/proc/self/exe", Args: []string{"sshd", "--connection"}}
}

// Copy is scp: the device's side of the old scp protocol. args and result are those of Serve.
func Copy(args []string) int {
	if err := scp.Run(args, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "scp: %v\n", err)
		return 1
	}
	return 0
}
