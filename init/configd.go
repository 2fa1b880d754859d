package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"time"

	"resinos/init/boot"
	"resinos/init/configd"
	"resinos/mounts/atomicfile"
	"resinos/net/keyimport"
	"resinos/services/boottime"
	"resinos/services/config"
	"resinos/services/pid1"
	"resinos/services/settings"
	"resinos/services/spec"
	"resinos/services/spec/precondition"
)

// runConfigd applies config.json once: PID 1 starts it for each change.
func runConfigd(ctx context.Context, args []string, log *slog.Logger) error {
	store := config.Store{Path: config.Path}
	if err := parse("configd", args, func(f *flag.FlagSet) {
		f.StringVar(&store.Path, "config", config.Path, "applies this `FILE`")
	}); err != nil {
		return err
	}
	for _, k := range keyimport.All() {
		changes, err := keyimport.Import(k, atomicfile.Write)
		if err != nil {
			log.Warn("files of resin-boot not copied", "path", k.From, "error", err)
		}
		if len(changes) > 0 {
			log.Info("files of resin-boot copied", "path", k.From, "changed", changes)
		}
	}
	return configd.Run(ctx, configd.Config{
		Store: store, Published: settings.Path, Lasts: store.Lasts, Patience: 2 * time.Second, Log: log,
		Now: boottime.Now, SetHostname: boot.SetHostname, SetRootCA: boot.SetRootCA, InImage: servicesOfImage,
		Services: func(ctx context.Context, before, now configd.Facts) error {
			return judgeServices(ctx, before, now, log)
		},
	})
}

// servicesOfImage names the services that the image and its owner have.
func servicesOfImage() (names []string) {
	specs, _ := boot.Services() // as in judgeServices
	for _, s := range specs {
		names = append(names, s.Name)
	}
	return names
}

// judgeServices makes PID 1 start and stop the services whose conditions on config.json changed.
func judgeServices(ctx context.Context, before, now configd.Facts, log *slog.Logger) error {
	specs, _ := boot.Services() // PID 1 has logged the faults
	conditions := configConditions(specs)
	if len(conditions) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return judge(ctx, conditions, before, now, log, pid1.Client{})
}

// judged is what judge uses of PID 1.
type judged interface {
	Status(context.Context) ([]pid1.ServiceStatus, error)
	Rescan(context.Context) (pid1.Rescanned, error)
	Change(ctx context.Context, op pid1.Change, name string) (pid1.ServiceStatus, error)
}

// judge is judgeServices with the given client of PID 1.
func judge(ctx context.Context, conditions []configd.Condition, before, now configd.Facts, log *slog.Logger,
	in judged) error {
	services, err := in.Status(ctx)
	if err != nil {
		return err
	}
	skipped := map[string]bool{}
	for _, s := range services {
		if s.Wanted {
			skipped[s.Name] = s.State == "skipped"
		}
	}
	start, stop := configd.Verdicts(conditions, skipped, now)
	if len(start)+len(stop) == 0 && !configd.Moved(conditions, before, now) {
		return nil
	}
	// PID 1 judges by the config.json that it has read; a rescan makes it read the file again.
	if _, err := in.Rescan(ctx); err != nil {
		return err
	}
	var faults []error
	for _, name := range start {
		log.Info("condition of service holds", "service", name)
		_, err := in.Change(ctx, pid1.Start, name)
		faults = append(faults, err)
	}
	for _, name := range stop {
		log.Info("condition of service does not hold", "service", name)
		if _, err := in.Change(ctx, pid1.Stop, name); err != nil {
			faults = append(faults, err)
			continue
		}
		// PID 1 refuses, as intended: the service stays requested, and is skipped until its conditions hold
		_, _ = in.Change(ctx, pid1.Start, name)
	}
	return errors.Join(faults...)
}

// configConditions lists the conditions of services on config.json: of those that start by themselves, and of those
// whose sockets are open.
func configConditions(specs []spec.Spec) []configd.Condition {
	var list []configd.Condition
	for _, s := range specs {
		if s.Masked || s.Start != spec.AtBoot && len(s.Listen.Sockets) == 0 {
			continue
		}
		for _, c := range s.Conditions {
			if c.Kind == precondition.Config {
				list = append(list, configd.Condition{Service: s.Name, Any: c.Settings(), Not: c.Not})
			}
		}
	}
	return list
}
