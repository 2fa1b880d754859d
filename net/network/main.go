// Command network is the daemon netd: links, leases, names and the time. Called by the name netrun, it starts hooks and
// nft for netd; called by the name proxy, it leads connections through the owner's proxy server. It is separate from
// init, so that PID 1 and the small daemons do not contain its code, for which each of their starts would pay
// (docs/decisions/0040-netd-is-a-program.md). Read run first.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"resinos/net/keyimport"
	"resinos/net/lease"
	"resinos/net/modemstate"
	"resinos/net/netcontrol"
	"resinos/net/netd"
	"resinos/net/ownrules"
	"resinos/net/proxy"
	"resinos/net/vpn"
	"resinos/net/wifi"
	"resinos/services/bootreport"
	"resinos/services/boottime"
	"resinos/services/confine"
	"resinos/services/log/line"
	"resinos/services/pid1"
	"resinos/services/settings"
)

func main() {
	runtime.MemProfileRate = 0              // the tables of the profile would cost more than a megabyte
	if code := confine.Adopt(); code != 0 { // before a byte of the network is read
		os.Exit(code)
	}
	debug.SetGCPercent(50)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	log := slog.New(line.New(os.Stderr, nil))
	err := error(nil)
	switch filepath.Base(os.Args[0]) {
	case "netrun":
		err = netrun(ctx, log)
	case "proxy":
		err = (&proxy.Service{Log: log}).Run(ctx)
	default:
		err = run(ctx, os.Args[1:], log)
	}
	ended := ctx.Err() != nil
	stop()
	switch {
	case err == nil || errors.Is(err, context.Canceled) && ended:
		return
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	}
	log.Error("daemon ended", "error", err)
	os.Exit(1)
}

// run runs netd, and the keeper of the time beside it, until ctx ends.
func run(ctx context.Context, args []string, log *slog.Logger) error {
	cfg := netd.Config{ResolvPath: "/run/resinos/resolv.conf", ServersPath: "/run/resinos/name-servers",
		LeaseDir: "/run/resinos/leases", LeaseMemory: "/mnt/state/leases", SharedDir: "/run/resinos/shared",
		RulesState: ownrules.State, Settings: settings.Path, KeyFiles: keyimport.To, Control: netcontrol.SocketPath,
		WiFi: wifi.Directory, VPN: vpn.Directory, Log: log}
	if _, err := os.Stat("/usr/lib/resinos/services/modem.toml"); err == nil {
		cfg.Modem = modemstate.Directory
	}
	id, _ := os.ReadFile("/etc/machine-id") // without it, addresses are not made from it
	cfg.Identity = strings.TrimSpace(string(id))
	flags := flag.NewFlagSet("netd", flag.ContinueOnError)
	flags.StringVar(&cfg.ResolvPath, "resolv", cfg.ResolvPath, "writes resolv.conf to this `FILE`")
	flags.StringVar(&cfg.LeaseDir, "leases", cfg.LeaseDir, "keeps the leases in this `DIRECTORY`")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // it has printed what is wrong
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "netd: unexpected argument %q\n", flags.Arg(0))
		return flag.ErrHelp
	}
	ctx, stop := context.WithCancel(ctx)
	leased, wait := keepTime(ctx, log)
	defer wait()
	local, left := announceName(ctx, &cfg)
	defer left()
	forwarder, silent := answerNames(ctx, &cfg, local)
	defer silent()
	router, alone := shareLinks(ctx, &cfg, forwarder)
	defer alone()
	defer filterPackets(ctx, &cfg, router.Check)()
	defer runHooks(ctx, &cfg)()
	showProxy(&cfg)
	defer loadRules(ctx, log)()
	rest, rested := process{collections(), faults, log}.calm(ctx)
	defer rested()
	defer stop()
	reported := false
	cfg.OnLease = func(l lease.Lease) { // one at a time
		if !reported {
			reported = report(ctx, log, bootreport.MilestoneLease, boottime.Now())
		}
		leased(l)
		rest()
	}
	return netd.Run(ctx, cfg)
}

// report reports a milestone to PID 1. The result is whether that worked; the caller may try again on the next
// occasion.
func report(ctx context.Context, log *slog.Logger, name string, at time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := pid1.Client{}.Milestone(ctx, name, at)
	if err != nil {
		log.Warn("milestone not reported", "milestone", name, "error", err)
	}
	return err == nil
}
