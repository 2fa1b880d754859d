package main

import (
	"context"
	"flag"
	"log/slog"

	"resinos/bsp/kmod"
	"resinos/mounts/swap"
)

// runZram turns swap in compressed RAM on and ends.
func runZram(_ context.Context, args []string, log *slog.Logger) error {
	if err := parse("zram", args, func(*flag.FlagSet) {}); err != nil {
		return err
	}
	loader, err := kmod.OpenRunning()
	if err != nil {
		return err
	}
	if err := loader.Load(swap.Module, ""); err != nil {
		return err
	}
	plan, err := swap.Use()
	if err == nil {
		log.Info("swap is on", "size", int64(plan.Size), "algorithm", plan.Algorithm)
	}
	return err
}
