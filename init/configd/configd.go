// Package configd owns what follows a change of config.json: the new values are kept as the last good copy, applied, and published
// for the daemons that live by them.
//
// It runs once for each change and ends; PID 1 watches the file meanwhile, waits until it is quiet, and starts it. It never
// overwrites a file that cannot be parsed, and a file that is being written is no fault until it has stayed so for a moment.
// Read Config first.
package configd

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"resinos/init/config"
	"resinos/services/settings"
)

// Name is the daemon's in the record of what is applied.
const Name = "configd"

// keys are those that configd applies itself.
var keys = []string{"hostname", "uuid"}

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

// Facts are the strings, numbers and booleans of config.json by key, which conditions of services are judged by.
type Facts map[string]string

// Run brings the device into line with the file. It fails only if what is in force could not be published; what else goes wrong is
// logged, and recorded where osctl finds it.
func Run(ctx context.Context, c Config) error {
	before, err := settings.Read(c.Published)
	if err != nil {
		c.Log.Warn("earlier settings not read", "error", err)
	}
	loaded, facts, err := c.take(c.load(ctx), before.Text("uuid"))
	if err != nil {
		c.Log.Error("configuration will not outlive a power cut", "error", err)
	}
	now := config.InForce(loaded, c.identity(loaded, before.Text("uuid")))
	if err != nil && now.Fault == "" {
		now.Fault = err.Error()
	}
	if now.Source != settings.File && now.Fault != "" {
		c.Log.Warn("config.json not usable", "error", now.Fault)
	}
	for key, fault := range now.Faults {
		c.Log.Warn("key of config.json not usable", "error", fmt.Sprintf("%s: %s", key, fault))
	}
	fault := c.SetHostname(config.Hostname(now))
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
	if changed {
		c.Log.Info("configuration applied", "source", string(now.Source), "changed", changes(before, now))
	}
	if err := c.Services(ctx, facts, loaded.Document.Scalars()); err != nil {
		c.Log.Warn("conditions of services not judged anew", "error", err)
	}
	return nil
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

// take makes what was loaded the last good copy, and writes what the file lacks. It returns what is in force then, and the facts of
// the copy before.
func (c Config) take(loaded config.Loaded, published string) (config.Loaded, Facts, error) {
	var facts Facts
	if good, err := config.Good(c.Store.Path); err == nil {
		facts = good.Scalars()
	} else if loaded.Source == settings.File {
		facts = loaded.Document.Scalars() // PID 1 has read the file at boot
	}
	if !c.Lasts() {
		return loaded, facts, fmt.Errorf("%s cannot be written", filepath.Dir(c.Store.Path))
	}
	id := c.identity(loaded, published)
	said, wrong := uuidOf(loaded.Document)
	var err error
	switch {
	case loaded.Source == settings.File && (said || id == ""):
		err = c.Store.Keep(loaded.Document, loaded.Document)
	case loaded.Source == settings.File && wrong: // it is left for its writer to see; the copy stays what the device is known by
		var copied config.Document
		if copied, err = loaded.Document.With("uuid", quote(id)); err == nil {
			err = c.Store.Keep(loaded.Document, copied)
		}
	case loaded.Source == settings.File:
		err = c.addUUID(id)
	case !loaded.Missing, c.ran():
		// Somebody's attempt is left alone; and a file that goes missing while the device runs is being replaced, or its owner
		// wants it gone for now.
		return loaded, facts, nil
	case loaded.Source == settings.LastGood:
		err = c.Store.Restore()
	case id != "":
		err = c.addUUID(id)
	}
	if err != nil {
		return loaded, facts, err
	}
	return config.Load(c.Store.Path), facts, nil
}

// addUUID writes the identity into a file that has none. Whoever adds one meanwhile is right.
func (c Config) addUUID(id string) error {
	return c.Store.Update(func(d config.Document) (config.Document, error) {
		if said, wrong := uuidOf(d); said || wrong {
			return d, nil
		}
		return d.With("uuid", quote(id))
	})
}

// uuidOf tells whether a document says a uuid, or something that is none.
func uuidOf(d config.Document) (said, wrong bool) {
	s := config.Effective(d, settings.File)
	return s.Text("uuid") != "", s.Text("uuid") == "" && s.Faults["uuid"] != ""
}

// quote makes JSON of an identity.
func quote(id string) json.RawMessage { return fmt.Appendf(nil, "%q", id) }

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

// Verdicts says which services are to be started and stopped when the facts change: those whose conditions all hold now and did
// not before, and the other way round. moved tells whether a condition speaks of anything that changed.
func Verdicts(conditions []Condition, before, now Facts) (start, stop []string, moved bool) {
	type verdict struct{ before, now bool }
	all := map[string]verdict{}
	var order []string
	for _, c := range conditions {
		was, had := before[c.Key]
		is, has := now[c.Key]
		moved = moved || was != is || had != has
		v, known := all[c.Service]
		if !known {
			v = verdict{true, true}
			order = append(order, c.Service)
		}
		all[c.Service] = verdict{v.before && c.holds(before), v.now && c.holds(now)}
	}
	for _, service := range order {
		switch v := all[service]; {
		case v.now && !v.before:
			start = append(start, service)
		case v.before && !v.now:
			stop = append(stop, service)
		}
	}
	return start, stop, moved
}
