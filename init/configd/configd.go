// Package configd owns what follows a change of config.json: the new values are kept as the last good copy, applied, and published
// for the daemons that live by them.
//
// It runs once for each change and ends; PID 1 watches the file meanwhile, waits until it is quiet, and starts it. It never
// overwrites a file that cannot be parsed, and a file that is being written is no fault until it has stayed so for a moment.
// Read Config first.
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

	"resinos/services/config"
	"resinos/services/settings"
)

// Name is the daemon's in the record of what is applied.
const Name = "configd"

// keys are those that configd applies itself.
var keys = []string{config.Hostname, config.UUID}

// Config says where things are and how they are done.
type Config struct {
	Store     config.Store
	Published string        // where the values in force are published
	Lasts     func() bool   // whether what is written outlives a power-off
	Patience  time.Duration // how long a file that cannot be parsed may still be being written
	Log       *slog.Logger

	Now         func() time.Duration                               // since the kernel started
	SetHostname func(name string) error                            // gives the device a name
	Services    func(ctx context.Context, before, now Facts) error // judges the conditions of services anew
}

// Facts are what config.json says by key, as conditions of services are judged by it (config.Document.Facts).
type Facts map[string]string

// Run brings the device into line with the file. It fails only if what is in force could not be published; what else goes wrong is
// logged, and recorded where osctl finds it.
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
	if changed { // else it has been said, by the run before or by PID 1: a file may be touched a hundred times
		c.complain(now)
		c.Log.Info("configuration applied", "source", string(now.Source), "changed", changes(before, now))
	}
	if err := c.Services(ctx, facts, loaded.Usable().Facts()); err != nil {
		c.Log.Warn("conditions of services not checked again", "error", err)
	}
	return nil
}

// complain says what of the file cannot be used.
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

// load waits a moment for a file that is missing or cannot be parsed: its writer may not have finished.
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

// facts are those of the copy before. Without one nobody knows them, and a copy may be older than what the boot has found in the file:
// they only tell that something may have changed.
func (c Config) facts() Facts {
	if good, err := config.Good(c.Store.Path); err == nil {
		return good.Facts()
	}
	return nil
}

// take makes what is there the last good copy, writes what the file lacks, and returns what is in force then.
func (c Config) take(loaded config.Loaded, before settings.Settings) (config.Loaded, error) {
	if !c.Lasts() {
		return loaded, fmt.Errorf("%s cannot be written", filepath.Dir(c.Store.Path))
	}
	return c.Store.Settle(func(now config.Loaded) (*config.Choice, error) { return c.choose(now, before) })
}

// choose says what the file and its copy shall hold; nothing where the file is to be left alone.
func (c Config) choose(now config.Loaded, before settings.Settings) (*config.Choice, error) {
	id := c.identity(now, before.Text(config.UUID))
	said, wrong := uuidOf(now.Document)
	switch {
	case now.Source != settings.File && (!now.Missing || before.Source == settings.File || c.ran()):
		// Somebody's attempt is left alone; and a file that goes missing while the device runs is being replaced, or its owner
		// wants it gone for now.
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
	if wrong { // it is left for its writer to see; the copy stays what the device is known by
		return &config.Choice{File: now.Document, Copy: good}, err
	}
	named, fault := now.Document.With(config.UUID, uuid)
	return &config.Choice{File: named, Copy: good}, errors.Join(err, fault)
}

// uuidOf tells whether a document says a uuid, or something that is none.
func uuidOf(d config.Document) (said, wrong bool) {
	s := config.Effective(d, settings.File)
	return s.Text(config.UUID) != "", s.Text(config.UUID) == "" && s.Faults[config.UUID] != ""
}

// ran reports whether configd has run since the boot.
func (c Config) ran() bool {
	all, err := settings.AllTaken(c.Published)
	return err == nil && slices.ContainsFunc(all[keys[0]], func(t settings.Taken) bool { return t.Daemon == Name })
}

// Condition is one condition of a service on config.json: KEY, or KEY=VALUE if Valued.
type Condition struct {
	Service    string
	Key, Value string
	Valued     bool
	Not        bool
}

func (c Condition) holds(f Facts) bool {
	value, there := f[c.Key]
	return (there && (!c.Valued || value == c.Value)) != c.Not
}

// Moved reports whether a condition speaks of anything that changed; it may have where nobody knows what was before.
func Moved(conditions []Condition, before, now Facts) bool {
	return slices.ContainsFunc(conditions, func(c Condition) bool {
		was, had := before[c.Key]
		is, has := now[c.Key]
		return before == nil || was != is || had != has
	})
}

// Verdicts says which services are to be started and stopped: those that were skipped and whose conditions all hold now, and those
// that somebody wants, are not skipped, and have one that does not hold. skipped says of each wanted service whether it is; others are
// left alone.
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
