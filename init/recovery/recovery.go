// Package recovery owns the program recovery of the recovery root: the system that a development image starts when
// neither slot has a root (init/stage1). It shows a person what stage 1 found, makes the bootloader boot a slot on
// request, and as a service makes the device try again while nobody is logged in. It never writes a slot: the updater
// does. Read Main, then retrier.
package recovery

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
	"resinos/bsp/update"
	"resinos/init/console"
	"resinos/init/lights"
	"resinos/services/bootreport"
)

const help = `usage: recovery             says why the device is in recovery, and what can be done
       recovery boot A|B    has the bootloader boot this slot, and reboots
       recovery run         is the service: tries again while nobody is logged in
`

// Main is the program: args are those after its name, the result is the exit status: 0 done, 1 failed, 2 wrong usage.
func Main(args []string) int {
	err := run(args)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(os.Stderr, help)
		return 2
	}
	fmt.Fprintf(os.Stderr, "recovery: %v\n", err)
	return 1
}

func run(args []string) error {
	switch {
	case len(args) == 0:
		return tell(os.Stdout, bootreport.InitramfsPath)
	case len(args) == 1 && args[0] == "run":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		go lights.Blink(lights.Dir, ctx.Done())
		return retrier{pause, again, held, console.Say, reboot}.run(ctx)
	case len(args) == 2 && args[0] == "boot":
		if err := choose(update.BootDir, update.LockPath, slot.Name(args[1])); err != nil {
			return err
		}
		return reboot()
	}
	return flag.ErrHelp
}

// tell prints what stage 1 found, and what a person can do.
func tell(w io.Writer, report string) error {
	r, err := bootreport.Load(report)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nThis device is in recovery: neither slot has a root that can be used.\n\n")
	for _, s := range r.Steps {
		if s.Name == bootreport.StepRecovery {
			fmt.Fprintf(&b, "  %s\n", strings.ReplaceAll(s.Error, "; slot ", "\n  slot "))
		}
	}
	b.WriteString(`
It tries again every five minutes while nobody is logged in. No app runs.

  osctl update history     what became of the latest updates
  osctl update FILE|URL    installs a version into the slot that was not booted
  osctl logs               this boot's log; of earlier boots if the log is kept on disk: --boot -1
  osctl reboot             tries again now
  recovery boot A|B        has the bootloader boot this slot, and reboots
  osctl stop recovery      stays until somebody reboots

`)
	_, err = io.WriteString(w, b.String())
	return err
}

// choose has the bootloader boot a slot. A trial ends with that: what was booted is confirmed or not by its own system.
func choose(dir, lock string, name slot.Name) error {
	if !name.Valid() {
		return fmt.Errorf("slot %q: want A or B", name)
	}
	unlock, err := update.Lock(lock)
	if err != nil {
		return err
	}
	defer unlock()
	loader, v, err := update.ReadVariables(dir)
	if loader == "" {
		return err // else the variables are damaged, and v are those that the bootloader uses
	}
	v.Slot, v.Try, v.Tries, v.Fault = name, bootvars.NoTrial, bootvars.NoTries, bootvars.NoFault
	return update.WriteVariables(dir, loader, v)
}

// reboot asks PID 1 as a person would.
func reboot() error {
	out, err := exec.Command("/usr/bin/osctl", "reboot").CombinedOutput()
	if err != nil {
		return fmt.Errorf("osctl reboot: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
