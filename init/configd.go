package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"strings"
	"time"

	"resinos/init/boot"
	"resinos/init/config"
	"resinos/init/configd"
	"resinos/services/control"
	"resinos/services/settings"
	"resinos/services/spec"
)

// runConfigd applies config.json once: PID 1 starts it for each change.
func runConfigd(ctx context.Context, args []string, log *slog.Logger) error {
	store := config.Store{Path: config.Path}
	if err := parse("configd", args, func(f *flag.FlagSet) {
		f.StringVar(&store.Path, "config", config.Path, "file to apply")
	}); err != nil {
		return err
	}
	return configd.Run(ctx, configd.Config{
		Store: store, Published: settings.Path, Lasts: store.Lasts, Patience: 2 * time.Second, Log: log,
		Now: boot.Now, SetHostname: boot.SetHostname,
		Services: func(ctx context.Context, before, now configd.Facts) error {
			return judgeServices(ctx, before, now, log)
		},
	})
}

// judgeServices has PID 1 start and stop the services whose conditions on config.json changed.
func judgeServices(ctx context.Context, before, now configd.Facts, log *slog.Logger) error {
	specs, _ := boot.Services() // PID 1 has told its faults
	start, stop, moved := configd.Verdicts(configConditions(specs), before, now)
	if !moved {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	// PID 1 judges by what it has read; a rescan has it read again.
	if err := control.Call(ctx, control.SocketPath, "rescan", nil, nil); err != nil {
		return err
	}
	var faults []error
	for op, names := range map[string][]string{"start": start, "stop": stop} {
		for _, name := range names {
			log.Info("condition of service changed", "service", name, "reason", op)
			faults = append(faults, control.Call(ctx, control.SocketPath, op, map[string]string{"name": name}, nil))
		}
	}
	return errors.Join(faults...)
}

// configConditions lists what services want of config.json. Only those count that start by themselves, or whose sockets are open.
func configConditions(specs []spec.Spec) []configd.Condition {
	var list []configd.Condition
	for _, s := range specs {
		if s.Masked || s.Start != spec.AtBoot && len(s.Listen.Sockets) == 0 {
			continue
		}
		for _, c := range s.Conditions {
			if c.Kind == spec.ConfigCondition {
				key, value, valued := strings.Cut(c.Value, "=")
				list = append(list, configd.Condition{Service: s.Name, Key: key, Value: value, Valued: valued, Not: c.Not})
			}
		}
	}
	return list
}
