package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"resinos/bsp/kmod"
	"resinos/init/getty"
	"resinos/init/oneoff"
	"resinos/init/osctl"
	"resinos/init/osctl/cli"
	"resinos/init/placard"
	"resinos/init/splash"
	"resinos/mounts/packed"
	"resinos/services/config"
	"resinos/services/confine"
	"resinos/services/footprint"
	"resinos/services/log/line"
	"resinos/services/log/logd"
	"resinos/services/notify"
	"resinos/services/pid1"
)

// applet is one function of the binary, chosen by the name it is called by. args are those after its name; the result
// is the exit code.
type applet func(ctx context.Context, args []string) int

// applets is the table of all applets. PID 1 itself is none of them.
func applets() map[string]applet {
	return map[string]applet{
		"osctl":    osctlMain,
		"launch":   func(context.Context, []string) int { return confine.Main(os.Environ()) },
		"poweroff": osctlWord("poweroff"),
		"reboot":   osctlWord("reboot"),
		"modprobe": modprobe,
		"logd":     daemon(runLogd),
		"devd":     daemon(runDevd),
		"configd":  daemon(runConfigd),
		"getty":    daemon(runGetty),
		"grow":     daemon(runGrow),
		"zram":     daemon(runZram),
		"splash":   daemon(splash.Main),
		"hold":     oneoff.Main,
		"updater":  tool("updater"),
	}
}

func osctlMain(ctx context.Context, args []string) int { return osctl.Main(ctx, cli.Env{}, args) }

// osctlWord is a command of osctl that can be typed without osctl before it.
func osctlWord(word string) applet {
	return func(ctx context.Context, args []string) int {
		return osctlMain(ctx, append([]string{word}, args...))
	}
}

// tool executes a packed tool by a name in the PATH. Services attach the packed file by the key packed instead.
func tool(name string) applet {
	return func(_ context.Context, args []string) int {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, packed.Run("tools", name, args, os.Environ()))
		return 1
	}
}

// daemon makes an applet of a service: SIGTERM ends it, its log goes to standard error with priorities, its memory is
// kept small.
func daemon(run func(ctx context.Context, args []string, log *slog.Logger) error) applet {
	return func(ctx context.Context, args []string) int {
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		defer footprint.Rush(ctx, rushLimit, footprint.Rest{After: restAfter, Percent: restPercent})()
		log := slog.New(line.New(os.Stderr, nil))
		err := run(ctx, args, log)
		switch {
		case err == nil || errors.Is(err, context.Canceled) && ctx.Err() != nil:
			return 0
		case errors.Is(err, flag.ErrHelp):
			return 2
		}
		log.Error("daemon ended", "error", err)
		return 1
	}
}

// parse reads the flags of a daemon; define adds them.
func parse(name string, args []string, define func(*flag.FlagSet)) error {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	define(flags)
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // the flag set has printed what is wrong
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "%s: unexpected argument %q\n", name, flags.Arg(0))
		return flag.ErrHelp
	}
	return nil
}

// restAfter is when a daemon gives back what its start took: once it is up, and the boot is over on most devices.
const restAfter = 20 * time.Second

// restPercent is how far its heap grows from then on between two collections, and rushLimit the memory from which on it
// collects garbage before (footprint.Rush).
const (
	restPercent = 20
	rushLimit   = 16 << 20
)

func runLogd(ctx context.Context, args []string, log *slog.Logger) error {
	cfg := logd.Config{Log: log}
	said := settleLog(&cfg, config.Path, log)
	rate, burst := logd.DefaultRate, logd.DefaultBurst
	if err := parse("logd", args, func(f *flag.FlagSet) {
		f.Func("ring", "sets the `size` of the ring, such as 8M (the default)", func(text string) (err error) {
			cfg.RingBytes, err = logd.ParseSize(text)
			return err
		})
		f.Func("disk", "sets the `size` of the log on disk, such as 8M (the default)", func(text string) (err error) {
			cfg.Archive.Bytes, err = logd.ParseSize(text)
			return err
		})
		f.IntVar(&rate, "rate", rate, "accepts at most so many `lines` a second from each source except the kernel; "+
			"0 means no limit")
		f.IntVar(&burst, "burst", burst, "accepts so many `lines` at once before the rate counts")
	}); err != nil {
		return err
	}
	if cfg.Rate, cfg.Burst = rate, burst; rate <= 0 {
		cfg.Rate = logd.NoLimit
	}
	cfg.OnFirstOutput = func(kind string, at time.Duration) {
		tell(ctx, log, kind+"_output", at)
	}
	cfg.Ready = func() { ready(log) }
	cfg.Alive = notify.Watched()
	// PID 1 keeps the socket between the lives of logd (fd-store). logd creates the socket itself, so that its first
	// life needs nothing from PID 1 and starts at once.
	const socket = "dev-log"
	for _, in := range notify.FromParent(os.Getenv, os.Getpid()) {
		if in.Name == socket {
			cfg.Kept = in.FD
		}
	}
	cfg.Keep = func(fd int) error { return notify.Keep(socket, fd) }
	ctx, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { said.follow(ctx) })
	defer beside.Wait()
	defer stop()
	return logd.Run(ctx, cfg)
}

func runGetty(ctx context.Context, args []string, log *slog.Logger) error {
	if err := parse("getty", args, func(*flag.FlagSet) {}); err != nil {
		return err
	}
	held := &gettyParent{held: map[string]int{}}
	for _, in := range notify.FromParent(os.Getenv, os.Getpid()) {
		held.held[in.Name] = in.FD
	}
	return getty.Run(ctx, getty.Config{Log: log, Parent: held, Placard: func(ctx context.Context, device string) error {
		return placard.Show(ctx, device, "/", log)
	}})
}

// gettyParent keeps terminals in PID 1 (getty.toml: fd-store, listen-stored).
type gettyParent struct {
	mu   sync.Mutex
	held map[string]int
}

func (p *gettyParent) Kept(name string) (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fd, ok := p.held[name]
	delete(p.held, name)
	return fd, ok
}

func (p *gettyParent) Keep(name string, fd int) error { return notify.Keep(name, fd) }
func (p *gettyParent) Drop(name string) error         { return notify.Drop(name) }
func (p *gettyParent) Settle() error                  { return notify.Settle(5 * time.Second) }

// ready reports to PID 1 that the service is up. If that fails, the start times out in PID 1, which logs it.
func ready(log *slog.Logger) {
	if err := notify.Ready(); err != nil {
		log.Warn("readiness not reported", "error", err)
	}
}

// tell reports a milestone to PID 1. It returns whether that worked, so that the caller can try again later.
func tell(ctx context.Context, log *slog.Logger, name string, at time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := pid1.Client{}.Milestone(ctx, name, at)
	if err != nil {
		log.Warn("milestone not reported", "milestone", name, "error", err)
	}
	return err == nil
}

// modprobe loads a module for the kernel, which calls "modprobe -q -- NAME" when it lacks a file system, a protocol or
// a rule type, and for people, who type "modprobe NAME [param=value...]".
func modprobe(_ context.Context, args []string) int {
	quiet := false
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		quiet = quiet || args[0] == "-q"
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: modprobe [-q] [--] NAME [param=value...]")
		return 2
	}
	loader, err := kmod.OpenRunning()
	switch {
	case err != nil:
	case len(args) > 1:
		err = loader.Load(args[0], strings.Join(args[1:], " "))
	default:
		err = loader.Request(args[0])
	}
	if err == nil {
		return 0
	}
	if !quiet || !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(os.Stderr, "modprobe: %v\n", err)
	}
	return 1
}
