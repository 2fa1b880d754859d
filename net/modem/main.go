// Command modem connects modems to the network: it runs ModemManager and pppd, while netd wants it, and is the bus that
// ModemManager speaks on. It is separate from netd, which every device runs. Called by the name pppup, it is what pppd
// starts when a connection is up. Read driver.run first.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"resinos/net/modemstate"
	"resinos/services/confine"
	"resinos/services/log/line"
)

func main() {
	if filepath.Base(os.Args[0]) == hookName {
		if err := hook(modemstate.Directory, os.Args, os.Getenv); err != nil {
			os.Exit(1) // pppd reports it
		}
		return
	}
	if code := confine.Adopt(); code != 0 { // before a modem is asked
		os.Exit(code)
	}
	debug.SetGCPercent(50)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	log := slog.New(line.New(os.Stderr, nil))
	d := driver{directory: modemstate.Directory, packed: "/usr/lib/packed/uplinks", sys: "/sys",
		kept: "/mnt/state/modem", log: log}
	err := d.run(ctx)
	ended := ctx.Err() != nil
	stop()
	if err != nil && !(ended && errors.Is(err, context.Canceled)) {
		log.Error("daemon ended", "error", err)
		os.Exit(1)
	}
}
