// Package configd carries out a change of config.json: it writes the new values to the last good copy, applies them,
// and publishes them for the daemons that follow them.
//
// It runs once for each change and exits. Meanwhile PID 1 watches the file, waits until nobody writes it, and starts
// configd. It never overwrites a file that cannot be parsed, and does not report a file as a fault while somebody may
// still be writing it. Read Config first.
package configd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"resinos/init/development"
	"resinos/services/config"
	"resinos/services/osrelease"
	"resinos/services/settings"
	"resinos/services/spec/precondition"
)

// Name is the daemon's name in the record of what was applied.
const Name = "configd"

// keys are the keys that configd applies itself.
var keys = []string{config.Hostname, config.UUID}

// Config holds the paths and functions of configd.
type Config struct {
	Store     config.Store
	Published string        // file with the settings in force
	Lasts     func() bool   // reports whether what is written outlives a power-off
	Patience  time.Duration // how long somebody may still be writing a file that cannot be parsed
	Log       *slog.Logger

	Now         func() time.Duration                               // since the kernel started
	SetHostname func(name string) error                            // sets the host name of the device
	SetRootCA   func(value string) error                           // adds the owner's certificates to the system's
	InImage     func() []string                                    // the services of the image
	Services    func(ctx context.Context, before, now Facts) error // checks the conditions of services again
}

// Facts are the values of config.json by key, for conditions of services (config.Document.Facts).
type Facts map[string]string

// Run applies the file. It fails only if the settings in force could not be published; other faults are logged, and
// recorded for osctl.
func Run(ctx context.Context, c Config) error {
	before, err := settings.Read(c.Published)
	if err != nil {
		c.Log.Warn("earlier settings not read", "error", err)
	}
	loaded := c.load(ctx)
	facts := c.facts()
	loaded, err = c.take(loaded, before)
	if err != nil {
		c.Log.Error("configuration may be lost at a power cut", "error", err)
	}
	now := config.InForce(loaded, c.identity(loaded, before.Text(config.UUID)))
	if err != nil && now.Fault == "" {
		now.Fault = err.Error()
	}
	fault := c.SetHostname(config.DeviceName(now))
	if fault != nil {
		c.Log.Error("host name not set", "error", fault)
	}
	changed, err := settings.Publish(c.Published, now)
	if err != nil {
		return err
	}
	if err := settings.Take(c.Published, Name, now, keys, c.Now(), fault); err != nil {
		c.Log.Warn("applied setting not recorded", "error", err)
	}
	if fault = c.SetRootCA(now.Text(config.RootCA)); fault != nil {
		c.Log.Error("certificates of owner not added", "error", fault)
	}
	if err := settings.Take(c.Published, Name, now, []string{config.RootCA}, c.Now(), fault); err != nil {
		c.Log.Warn("applied setting not recorded", "error", err)
	}
	if changed { // otherwise it was reported already, by the last run or by PID 1
		c.complain(now)
		c.Log.Info("configuration applied", "source", string(now.Source), "changed", changes(before, now))
	}
	c.developed(now)
	if err := c.Services(ctx, facts, loaded.Facts()); err != nil {
		c.Log.Warn("conditions of services not checked again", "error", err)
	}
	return nil
}

// developed records which features of the development mode this image cannot open, if config.json asks for them. The
// conditions of services open and close the others.
func (c Config) developed(now settings.Settings) {
	var fault error
	if now.Flag(config.DevelopmentMode) && now.Values[config.DevelopmentMode].From != settings.Default {
		fault = development.Lacks(c.InImage())
	}
	if fault != nil {
		c.Log.Warn("development mode is not complete", "error", fault)
	}
	if err := settings.Take(c.Published, Name, now, []string{config.DevelopmentMode}, c.Now(), fault); err != nil {
		c.Log.Warn("applied setting not recorded", "error", err)
	}
}

// complain reports which parts of the file cannot be used.
func (c Config) complain(now settings.Settings) {
	if now.Source != settings.File && now.Fault != "" {
		c.Log.Warn("config.json not usable", "error", now.Fault)
	}
	for _, key := range slices.Sorted(maps.Keys(now.Faults)) {
		c.Log.Warn("key of config.json not usable", "error", fmt.Sprintf("%s: %s", key, now.Faults[key]))
	}
}

// changes lists the keys whose values differ.
func changes(before, now settings.Settings) []string {
	var list []string
	for _, k := range config.Keys() {
		if !before.Same(now, []string{k.Name}) {
			list = append(list, k.Name)
		}
	}
	return list
}

// load waits a moment for a file that is missing or cannot be parsed: somebody may still be writing it.
func (c Config) load(ctx context.Context) config.Loaded {
	const looks = 4
	loaded := config.Load(c.Store.Path)
	for range looks {
		if loaded.Source == settings.File {
			break
		}
		pause := time.NewTimer(c.Patience / looks)
		select {
		case <-ctx.Done():
			pause.Stop()
			return loaded
		case <-pause.C:
		}
		loaded = config.Load(c.Store.Path)
	}
	return loaded
}

func (c Config) identity(loaded config.Loaded, published string) string {
	if id := config.Identity(c.Store.Path, loaded); id != "" {
		return id
	}
	return published
}

// facts returns the facts of the previous copy. Without a copy they are not known, and a copy may be older than the
// file that the boot read: they only tell that something may have changed.
func (c Config) facts() Facts {
	if good, err := config.Good(c.Store.Path); err == nil {
		return config.Loaded{Document: good, Variant: osrelease.Variant()}.Facts()
	}
	return nil
}

// take writes the file as it is to the last good copy, adds what the file lacks, and returns what is in force then.
func (c Config) take(loaded config.Loaded, before settings.Settings) (config.Loaded, error) {
	if !c.Lasts() {
		return loaded, fmt.Errorf("%s cannot be written", filepath.Dir(c.Store.Path))
	}
	return c.Store.Settle(func(now config.Loaded) (*config.Choice, error) { return c.choose(now, before) })
}

// choose decides on the content of the file and its copy; nil if the file must not be changed.
func (c Config) choose(now config.Loaded, before settings.Settings) (*config.Choice, error) {
	id := c.identity(now, before.Text(config.UUID))
	said, wrong := uuidOf(now.Document)
	switch {
	case now.Source != settings.File && (!now.Missing || before.Source == settings.File || c.ran()):
		// A file that somebody is editing is left alone. A file that disappears while the device runs is being
		// replaced, or its owner removed it.
		return nil, nil
	case now.Source == settings.Default && id == "":
		return nil, nil
	}
	good := now.Usable()
	if said || id == "" {
		return &config.Choice{File: now.Document, Copy: good}, nil
	}
	uuid := fmt.Appendf(nil, "%q", id)
	good, err := good.With(config.UUID, uuid)
	if wrong { // it stays for its writer to see; the copy keeps the identity of the device
		return &config.Choice{File: now.Document, Copy: good}, err
	}
	named, fault := now.Document.With(config.UUID, uuid)
	return &config.Choice{File: named, Copy: good}, errors.Join(err, fault)
}

// uuidOf reports whether a document has a UUID, or something that is not one.
func uuidOf(d config.Document) (said, wrong bool) {
	s := config.Effective(d, settings.File)
	return s.Text(config.UUID) != "", s.Text(config.UUID) == "" && s.Faults[config.UUID] != ""
}

// ran reports whether configd has run since the boot.
func (c Config) ran() bool {
	all, err := settings.AllTaken(c.Published)
	return err == nil && slices.ContainsFunc(all[keys[0]], func(t settings.Taken) bool { return t.Daemon == Name })
}

// Condition is one condition of a service on config.json: any of the settings is so, or none of them if Not.
type Condition struct {
	Service string
	Any     []precondition.Setting
	Not     bool
}

func (c Condition) holds(f Facts) bool {
	return slices.ContainsFunc(c.Any, func(s precondition.Setting) bool { return s.In(f) }) != c.Not
}

// Moved reports whether a condition depends on something that changed, or may have changed if the facts before are not
// known.
func Moved(conditions []Condition, before, now Facts) bool {
	moved := func(s precondition.Setting) bool {
		was, had := before[s.Key]
		is, has := now[s.Key]
		return before == nil || was != is || had != has
	}
	return slices.ContainsFunc(conditions, func(c Condition) bool { return slices.ContainsFunc(c.Any, moved) })
}

// Verdicts returns which services to start and stop: start those that were skipped and whose conditions all hold now;
// stop those that are requested, were not skipped, and have a condition that does not hold. skipped says for each
// requested service whether it was skipped; others are not changed.
func Verdicts(conditions []Condition, skipped map[string]bool, now Facts) (start, stop []string) {
	holds := map[string]bool{}
	var order []string
	for _, c := range conditions {
		so, known := holds[c.Service]
		if !known {
			so = true
			order = append(order, c.Service)
		}
		holds[c.Service] = so && c.holds(now)
	}
	for _, service := range order {
		switch is, wanted := skipped[service]; {
		case wanted && is && holds[service]:
			start = append(start, service)
		case wanted && !is && !holds[service]:
			stop = append(stop, service)
		}
	}
	return start, stop
}
