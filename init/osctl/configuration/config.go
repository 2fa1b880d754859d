// Package configuration owns the command osctl config: it shows the values in force and what the daemons have done with
// them, and changes config.json. Package services/config owns the meaning of the keys and the writing of the file. Read
// Configure first.
package configuration

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/mounts/atomicfile"
	"resinos/services/config"
	"resinos/services/settings"
)

func Configure(ctx context.Context, call *cli.Session, flags *flag.FlagSet, args []string) error {
	s := &session{call}
	asJSON := flags.Bool("json", false, "prints JSON")
	all := flags.Bool("all", false, "shows unset keys of other programs too")
	dry := flags.Bool("n", false, "prints what it would do, and does nothing")
	anyKey := flags.Bool("any-key", false, "sets a key that this system does not know")
	rest, err := cli.Parse(flags, args)
	if err != nil {
		return err
	}
	c := &configuration{session: s, dry: *dry, anyKey: *anyKey,
		store: config.Store{Path: filepath.Join(s.Root, config.Path)}, published: filepath.Join(s.Root, settings.Path)}
	if len(rest) == 0 {
		return c.show(*all, *asJSON)
	}
	verb, rest := rest[0], rest[1:]
	want := map[string]int{"get": 1, "set": 2, "unset": 1, "restore": 0}
	n, known := want[verb]
	switch {
	case !known:
		return cli.Misuse(fmt.Sprintf("no command %q of config", verb),
			"there are: osctl config get, set, unset, restore")
	case len(rest) != n:
		return cli.Misuse(fmt.Sprintf("config %s needs %d arguments, not %d; put a value with blanks in quotes", verb,
			n, len(rest)), "try: osctl help config")
	}
	switch verb {
	case "get":
		return c.get(rest[0], *asJSON)
	case "set":
		return c.set(ctx, rest[0], rest[1])
	case "unset":
		return c.unset(ctx, rest[0])
	}
	return c.restore()
}

// session is one call, with the methods of this package.
type session struct{ *cli.Session }

// configuration is one call of osctl config.
type configuration struct {
	*session
	dry, anyKey bool
	store       config.Store
	published   string
}

// shownKey is one key as it is told.
type shownKey struct {
	Key    string           `json:"key"`
	Kind   config.Kind      `json:"kind"`
	Value  json.RawMessage  `json:"value,omitempty"` // left out for secrets
	From   settings.From    `json:"from,omitempty"`
	Secret bool             `json:"secret,omitempty"`
	For    string           `json:"for,omitempty"` // who lives by it
	State  string           `json:"state"`         // applied, waiting, fault, no effect, kept
	Effect string           `json:"effect"`        // the same in words
	Taken  []settings.Taken `json:"taken,omitempty"`
}

// shownConfig is what --json prints.
type shownConfig struct {
	Source  settings.From `json:"source"`
	Fault   string        `json:"fault,omitempty"`
	Keys    []shownKey    `json:"keys"`
	Unknown []string      `json:"unknown,omitempty"`
	Pending bool          `json:"pending,omitempty"` // the file says something that is not in force yet
}

// The states of a key.
const (
	keyApplied  = "applied"
	keyWaiting  = "waiting"
	keyFault    = "fault"
	keyNoEffect = "no effect"
	keyKept     = "kept"
)

func (c *configuration) look() (shownConfig, error) {
	now, err := settings.Read(c.published)
	if err != nil {
		return shownConfig{}, cli.Advise(err, "try: osctl start configd")
	}
	file := config.InForce(config.Load(c.store.Path), now.Text(config.UUID))
	pending := now.Values != nil
	if now.Values == nil {
		now = file
	}
	taken, err := settings.AllTaken(c.published)
	if err != nil {
		return shownConfig{}, err
	}
	out := shownConfig{Source: now.Source, Fault: now.Fault, Unknown: now.Unknown}
	for _, k := range config.Keys() {
		key := describe(k, now, taken[k.Name], c.Now())
		if k.Name == config.DNSServers && key.State == keyApplied && key.From == settings.Default &&
			c.othersAsked(now.List(k.Name)) {
			key.State, key.Effect = keyNoEffect, "not used: a lease has name servers"
		}
		out.Keys = append(out.Keys, key)
	}
	out.Pending = pending && !applied(file, now)
	return out, nil
}

// othersAsked reports whether the device asks name servers, and none of these.
func (c *configuration) othersAsked(servers []string) bool {
	others := false
	for line := range strings.Lines(c.Read("run/resinos/name-servers")) {
		f := strings.Fields(line)
		if len(f) != 2 || f[0] != "nameserver" {
			continue
		}
		if slices.Contains(servers, f[1]) {
			return false
		}
		others = true
	}
	return others
}

// describe says what is in force for a key, and what it has done.
func describe(k config.Key, s settings.Settings, taken []settings.Taken, now time.Duration) shownKey {
	v := s.Values[k.Name]
	out := shownKey{Key: k.Name, Kind: k.Kind, Value: v.JSON, From: v.From, Secret: k.Secret, For: k.Daemon + k.Others}
	if k.Secret {
		out.Value = nil
	}
	set := v.JSON != nil && v.From != settings.Default
	switch {
	case s.Faults[k.Name] != "":
		out.State, out.Effect = keyFault, s.Faults[k.Name]+"; try: osctl config set "+k.Name+" VALUE"
	case k.Others != "":
		out.State, out.Effect = keyKept, "kept for "+k.Others
	case k.Refused != "":
		out.State, out.Effect = keyNoEffect, "has no effect here: "+k.Refused
	case k.Later != "" && set:
		out.State, out.Effect = keyNoEffect, "no effect yet: it needs "+k.Later
	case k.Later != "":
		out.State, out.Effect = keyNoEffect, "needs "+k.Later
	default:
		out.State, out.Effect, out.Taken = effect(k, v, taken, now)
	}
	return out
}

// effect tells what the daemons have recorded. PID 1 records what it did at boot, which whoever takes a change later
// replaces.
func effect(k config.Key, v settings.Value, taken []settings.Taken,
	now time.Duration) (state, text string, of []settings.Taken) {
	var done, waiting []string
	latest := 0.0
	for _, t := range taken {
		switch {
		case !t.Of(v) && t.Daemon == "init":
			continue
		case !t.Of(v):
			waiting = append(waiting, t.Daemon)
		case t.Error != "":
			return keyFault, t.Daemon + ": " + t.Error, taken
		default:
			done = append(done, t.Daemon)
			latest = max(latest, t.At)
		}
		of = append(of, t)
	}
	switch {
	case len(waiting) > 0:
		return keyWaiting, "not applied yet by " + strings.Join(waiting, ", ") + "; try: osctl status " + waiting[0], of
	case len(done) > 0:
		return keyApplied, "applied by " + strings.Join(done, ", ") + " " +
			screen.Ago(now-time.Duration(latest*float64(time.Second))) + " ago", of
	case v.JSON == nil || v.From == settings.Default:
		return keyNoEffect, k.Daemon + " does not follow it", nil
	}
	return keyNoEffect, "no effect yet: " + k.Daemon + " does not follow it", nil
}

func (c *configuration) show(all, asJSON bool) error {
	found, err := c.look()
	if err != nil {
		return err
	}
	if asJSON {
		return c.PrintJSON(found)
	}
	_, err = io.WriteString(c.Stdout, c.text(found, all))
	return err
}

var stateColours = map[string]screen.Colour{keyApplied: screen.Green, keyWaiting: screen.Yellow, keyFault: screen.Red,
	keyNoEffect: screen.Dim, keyKept: screen.Dim}

func (c *configuration) text(found shownConfig, all bool) string {
	var b strings.Builder
	if found.Fault != "" {
		b.WriteString(c.Paint(screen.Red, c.Fit(screen.InLine(found.Fault))) + "\n" +
			c.Fit("try: osctl config restore, or correct "+config.Path) + "\n\n")
	}
	if found.Pending {
		b.WriteString(c.Paint(screen.Yellow,
			c.Fit("config.json has changed and is not applied yet; try: osctl status configd")) + "\n\n")
	}
	rows := [][]screen.Cell{screen.Header("KEY", "VALUE", "FROM", "EFFECT")}
	for _, k := range found.Keys {
		if set := k.From != "" && k.From != settings.Default; !set && k.State == keyKept && !all {
			continue
		}
		rows = append(rows, []screen.Cell{{Text: k.Key}, {Text: shorten(k.said(), 40)}, {Text: string(k.From),
			Colour: screen.Dim}, {Text: screen.InLine(k.Effect), Colour: stateColours[k.State]}})
	}
	for _, key := range found.Unknown {
		rows = append(rows, []screen.Cell{{Text: shorten(screen.Escape(key), 60)}, {},
			{Text: "file", Colour: screen.Dim}, {Text: "unknown key, kept unchanged", Colour: screen.Dim}})
	}
	b.WriteString(c.Table(rows))
	return b.String()
}

// said is the value for people.
func (k shownKey) said() string {
	if k.From == "" {
		return "-"
	}
	if k.Secret {
		return "(hidden)"
	}
	var text string
	if json.Unmarshal(k.Value, &text) == nil {
		return screen.Escape(text)
	}
	var list []string
	if json.Unmarshal(k.Value, &list) == nil && k.Kind == config.Words {
		return screen.Escape(strings.Join(list, " "))
	}
	return screen.Escape(string(k.Value))
}

// shorten cuts a value that would push what matters off the line.
func shorten(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-3]) + "..."
	}
	return text
}

// get prints the value of one key, secrets too: it was asked for. That is what is in force, or will be as soon as the
// file is applied.
func (c *configuration) get(key string, asJSON bool) error {
	now, err := settings.Read(c.published)
	if err != nil {
		return err
	}
	loaded := config.Load(c.store.Path)
	file := config.InForce(loaded, now.Text(config.UUID))
	raw := file.Values[key].JSON
	if _, known := config.Find(key); !known {
		raw, _ = loaded.Document.Get(key)
	} else if now.Values != nil && !file.Same(now, []string{key}) {
		fmt.Fprintln(c.Stderr, "config.json has changed: this is not in force yet; try: osctl config")
	}
	switch {
	case raw == nil:
		return cli.Advise(fmt.Errorf("%s is not set and has no default", screen.Escape(key)), "try: osctl config --all")
	case asJSON:
		return c.PrintJSON(raw)
	}
	k, _ := config.Find(key)
	_, err = fmt.Fprintln(c.Stdout, shownKey{Key: key, Kind: k.Kind, Value: raw, From: settings.File}.said())
	return err
}

func (c *configuration) set(ctx context.Context, key, typed string) error {
	if _, known := config.Find(key); !known && !c.anyKey {
		var names []string
		for _, k := range config.Keys() {
			names = append(names, k.Name)
		}
		hint := "to set it anyway: osctl config set --any-key " + screen.Escape(key) + " VALUE"
		if near := cli.Nearest(key, names); near != "" {
			hint = "did you mean " + near + "? " + hint
		}
		return cli.Misuse(fmt.Sprintf("this system knows no key %q", key), hint)
	}
	if key == "" || slices.Contains(strings.Split(key, "."), "") {
		return cli.Misuse(fmt.Sprintf("%q is no key", key), "try: osctl config --all")
	}
	value := config.Encode(key, typed)
	if err := config.Check(key, value); err != nil {
		return cli.Misuse(err.Error(), "try: osctl help config")
	}
	told := string(value)
	if k, _ := config.Find(key); k.Secret {
		told = "the given value"
	}
	return c.change(ctx, "set "+key+" to "+told,
		func(d config.Document) (config.Document, error) { return d.With(key, value) })
}

func (c *configuration) unset(ctx context.Context, key string) error {
	if key == config.UUID {
		return cli.Misuse("the device would lose its identity",
			"to give it another: osctl config set uuid 32-HEX-DIGITS")
	}
	if _, written := config.Load(c.store.Path).Document.Get(key); !written {
		return cli.Advise(fmt.Errorf("%s is not in config.json", screen.Escape(key)), "try: osctl config")
	}
	return c.change(ctx, "remove "+key, func(d config.Document) (config.Document, error) { return d.Without(key) })
}

// change writes the file, or says what it would do.
func (c *configuration) change(ctx context.Context, what string,
	change func(config.Document) (config.Document, error)) error {
	if c.dry {
		_, err := fmt.Fprintln(c.Stdout, screen.Escape(what)+" in "+config.Path)
		return err
	}
	lasts := c.store.Lasts()
	switch err := c.store.Update(change); {
	case errors.Is(err, config.ErrUnusable):
		return cli.Advise(errors.New(screen.InLine(err.Error())), "correct the file, or try: osctl config restore")
	case errors.Is(err, atomicfile.ErrKept):
		return cli.Advise(err, "the next boot repairs the boot partition; try: osctl reboot")
	case err != nil:
		return cli.Advise(err, "is the boot partition attached? try: osctl boot")
	case !lasts:
		fmt.Fprintln(c.Stderr, "resin-boot is not attached: the change lasts until the next boot")
	}
	hint := "to see its effect: osctl config"
	if err := c.awaitApplied(ctx); err != nil {
		hint = "it is written and not in force yet; try: osctl status configd"
	}
	_, err := fmt.Fprintln(c.Stdout, screen.Escape(what)+"; "+hint)
	return err
}

// applyPatience is how long configd has for a change: it waits until the file is quiet, and one run of it is not far
// from the other.
const applyPatience = 10 * time.Second

// awaitApplied returns when what the file says is in force. The error says that this has not come to pass in time.
func (c *configuration) awaitApplied(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, applyPatience)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		now, err := settings.Read(c.published)
		switch {
		case err == nil && now.Values == nil: // nobody publishes anything: this is no running device
			return nil
		case err == nil && applied(config.InForce(config.Load(c.store.Path), now.Text(config.UUID)), now):
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-look.C:
		}
	}
}

// applied reports whether all that the file says is in force.
func applied(file, now settings.Settings) bool {
	for _, k := range config.Keys() {
		if !file.Same(now, []string{k.Name}) {
			return false
		}
	}
	return true
}

func (c *configuration) restore() error {
	if c.dry {
		_, err := fmt.Fprintf(c.Stdout, "move %s to %s, replace it by the last good copy\n", config.Path,
			config.Path+config.Bad)
		return err
	}
	if err := c.store.Restore(); err != nil {
		return cli.Advise(errors.New(screen.InLine(err.Error())), "try: osctl config")
	}
	_, err := fmt.Fprintf(c.Stdout, "config.json is the last good copy now; the old file is %s\n",
		config.Path+config.Bad)
	return err
}
