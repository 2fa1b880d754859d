// Package updater owns the program that installs updates of the system, and confirms or leaves a slot on trial. As
// "updater" it answers on the socket that PID 1 holds for it, until nobody has asked for anything for a while; as
// "updater confirm" it judges a boot on trial; "updater boot-files" updates the boot partition to the files of the
// running version. It is no part of init: PID 1 must not link its HTTP client, and a device whose engine does not start
// must still be able to get another version. Read device, then installation.
package updater

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"resinos/bsp/bootfiles"
	"resinos/bsp/update"
	"resinos/init/confirm"
	"resinos/services/boottime"
	"resinos/services/log/line"
	"resinos/services/notify"
)

// Main is the program: args are those after its name, the result is the exit status: 0 done, 1 failed, 2 wrong usage.
func Main(args []string) int {
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(24 << 20)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
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

func run(ctx context.Context, args []string, log *slog.Logger) error {
	if len(args) > 0 && args[0] == "confirm" {
		return runConfirm(ctx, args[1:], log)
	}
	if len(args) > 0 && args[0] == "boot-files" {
		return runBootFiles(args[1:], log)
	}
	idle := time.Minute
	flags := flag.NewFlagSet("updater", flag.ContinueOnError)
	flags.DurationVar(&idle, "idle", idle, "`time` without a request after which it ends")
	if err := parse(flags, args); err != nil {
		return err
	}
	for _, in := range notify.FromParent(os.Getenv, os.Getpid()) {
		stepAside(log)
		return serve(ctx, os.NewFile(uintptr(in.FD), "socket"), onDevice(log), idle)
	}
	return errors.New("updater: no socket from PID 1; try: osctl update")
}

// mostDeadline leaves time before PID 1 ends the boot by itself (init/life, endTrial).
const mostDeadline = 25 * time.Minute

func runConfirm(ctx context.Context, args []string, log *slog.Logger) error {
	d := onDevice(log)
	c := confirm.Config{Device: d, Checks: confirm.OwnersDir, Stable: confirm.Stable, Until: confirm.Deadline,
		Every: confirm.Every,
		Now:   boottime.Now, Log: log}
	flags := flag.NewFlagSet("updater confirm", flag.ContinueOnError)
	flags.DurationVar(&c.Stable, "stable", c.Stable, "`time` for which everything has to be well")
	flags.DurationVar(&c.Until, "deadline", c.Until,
		"`time` since the start of the kernel after which the slot is left")
	if err := parse(flags, args); err != nil {
		return err
	}
	if c.Until > mostDeadline {
		return fmt.Errorf("--deadline %v: at most %v, because PID 1 waits for 30 minutes", c.Until, mostDeadline)
	}
	return confirm.Run(ctx, c)
}

// runBootFiles repairs the files of the boot partition by hand.
func runBootFiles(args []string, log *slog.Logger) error {
	source := bootfiles.Source
	flags := flag.NewFlagSet("updater boot-files", flag.ContinueOnError)
	flags.StringVar(&source, "from", source, "`directory` with the files and their list, resinos.fingerprint")
	if err := parse(flags, args); err != nil {
		return err
	}
	done, err := bootfiles.Install(source, update.BootDir)
	for _, step := range done {
		log.Info("boot file installed", "path", step.Path)
	}
	return err
}

func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // it has printed what is wrong
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "updater: unexpected argument %q\n", flags.Arg(0))
		return flag.ErrHelp
	}
	return nil
}
