// Package modem owns the program that connects modems to the network: it runs ModemManager and pppd, while netd wants
// it, and is the bus that ModemManager speaks on. It is one of the packed tools (init/tools), no part of netd, which
// every device runs. Read driver.run first.
package modem

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"resinos/mounts/packed"
	"resinos/net/modemstate"
	"resinos/services/confine"
	"resinos/services/log/line"
)

// Hook is the program that pppd starts when a connection is up, by the name pppup; args are those behind its name. The
// result is the exit status: 0, or 1, which pppd reports.
func Hook(args []string) int {
	if err := hook(modemstate.Directory, args, os.Getenv); err != nil {
		return 1
	}
	return 0
}

// Main is the program; it takes no arguments. The result is the exit status: 0 when nothing is wanted any more or it
// was told to end, 1 when it failed, or what confine.Adopt returns.
func Main([]string) int {
	if code := confine.Adopt(); code != 0 { // before a modem is asked
		return code
	}
	debug.SetGCPercent(50)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(line.New(os.Stderr, nil))
	d := driver{directory: modemstate.Directory, packed: packed.Path("uplinks"), sys: "/sys",
		hook: filepath.Join(packed.Path("tools"), hookName), kept: "/mnt/state/modem", log: log}
	if err := d.run(ctx); err != nil && !(ctx.Err() != nil && errors.Is(err, context.Canceled)) {
		log.Error("daemon ended", "error", err)
		return 1
	}
	return 0
}
