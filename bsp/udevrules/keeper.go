package udevrules

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"resinos/mounts/atomicfile"
)

// Keeper carries out the rules in force: for the devices that exist whenever the rules change, then for each event. Its
// methods may be called by several goroutines.
type Keeper struct {
	Sys    string // where sysfs is attached
	Dev    string // where devtmpfs is attached
	Record string // file of the names that were given, so that the next life of the daemon can take them back
	Log    *slog.Logger

	one    sync.Mutex // guards what follows
	rules  []Rule
	claims map[string]claim  // by the path of the device
	placed map[string]string // node by name, both below /dev
}

// claim is what one device wants to be called.
type claim struct {
	node  string
	links []string
}

// Set replaces the rules and applies them to every device, as if it had just been added. Names that no rule gives any
// more are removed; modes, owners and attributes stay until the device is added again.
func (k *Keeper) Set(rules []Rule) error {
	k.one.Lock()
	defer k.one.Unlock()
	if k.placed == nil {
		k.placed = k.recorded()
	}
	k.rules, k.claims = rules, map[string]claim{}
	if len(rules) == 0 && len(k.placed) == 0 {
		return nil
	}
	var faults []error
	if len(rules) > 0 {
		for _, d := range k.present() {
			faults = append(faults, k.apply(d))
		}
	}
	faults = append(faults, k.place(slices.Collect(maps.Keys(k.placed))))
	k.Log.Info("rules for devices in force", "count", len(rules), "names", len(k.placed))
	return errors.Join(faults...)
}

// Again applies the rules to every device, because events were lost.
func (k *Keeper) Again() {
	k.one.Lock()
	rules := k.rules
	k.one.Unlock()
	if len(rules) > 0 {
		k.report("", k.Set(rules))
	}
}

// Event applies the rules to one event of the kernel; node is the device's node below /dev.
func (k *Keeper) Event(action, device, node string, env map[string]string) {
	k.one.Lock()
	defer k.one.Unlock()
	if len(k.rules) == 0 {
		return
	}
	if action == "remove" {
		gone := k.claims[device].links
		delete(k.claims, device)
		k.report(device, k.place(gone))
		return
	}
	k.report(device, k.apply(Device{Action: action, Path: device, Node: node, Env: env}))
}

// Busy reports whether there are rules, or names that an earlier rule gave.
func (k *Keeper) Busy() bool {
	k.one.Lock()
	defer k.one.Unlock()
	return len(k.rules)+len(k.placed) > 0
}

func (k *Keeper) report(device string, err error) {
	if err != nil {
		k.Log.Warn("rule for device not applied", "device", device, "error", err)
	}
}

// apply decides for one device and carries it out. A device keeps the names that an earlier event gave it.
func (k *Keeper) apply(d Device) error {
	effect, err := Decide(k.rules, d, sysfs(k.Sys))
	faults := []error{err}
	if !effect.None() {
		old := k.claims[d.Path].links
		links := effect.Links
		if d.Action != "add" {
			for _, l := range old {
				if !slices.Contains(links, l) {
					links = append(links, l)
				}
			}
		}
		k.claims[d.Path] = claim{d.Node, links}
		faults = append(faults, k.write(d.Path, effect.Writes), k.permit(d.Node, effect),
			k.place(append(slices.Clone(links), old...)))
	}
	return errors.Join(faults...)
}

// write writes attributes of a device.
func (k *Keeper) write(device string, all []Attribute) error {
	var faults []error
	for _, a := range all {
		f, err := os.OpenFile(filepath.Join(k.Sys, device, a.Name), os.O_WRONLY|os.O_TRUNC, 0)
		if err == nil {
			_, err = f.WriteString(a.Value)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("write attribute: %w", err))
		}
	}
	return errors.Join(faults...)
}

// permit gives a node its mode and its owner. The mode comes first: it takes no capability while root owns the node.
func (k *Keeper) permit(node string, e Effect) error {
	if node == "" || e.Mode < 0 && e.Owner < 0 && e.Group < 0 {
		return nil
	}
	dev, err := os.OpenRoot(k.Dev)
	if err != nil {
		return err
	}
	defer dev.Close() // nothing was written to it
	st, err := dev.Lstat(node)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the device is gone, and its event is on the way
	}
	if err != nil || st.Mode()&fs.ModeDevice == 0 {
		return errors.Join(err, fmt.Errorf("set mode of node: /dev/%s is no device", node))
	}
	var faults []error
	if e.Mode >= 0 {
		faults = append(faults, dev.Chmod(node, fs.FileMode(e.Mode)))
	}
	if e.Owner >= 0 || e.Group >= 0 {
		faults = append(faults, dev.Lchown(node, e.Owner, e.Group))
	}
	return errors.Join(faults...)
}

// place makes names point where the claims want them, and removes those that nobody claims. Of several devices that
// claim one name, the one with the first path has it: which one came first would differ from boot to boot.
func (k *Keeper) place(names []string) error {
	if len(names) == 0 {
		return nil
	}
	dev, err := os.OpenRoot(k.Dev)
	if err != nil {
		return err
	}
	defer dev.Close() // nothing was written to it
	var faults []error
	changed := false
	for _, name := range names {
		want, have := k.claimed(name), k.placed[name]
		if want == have {
			continue
		}
		changed = true
		if err := point(dev, name, want, have != ""); err != nil {
			faults = append(faults, err)
			continue
		}
		if k.placed[name] = want; want == "" {
			delete(k.placed, name)
		}
	}
	if changed {
		faults = append(faults, k.record())
	}
	return errors.Join(faults...)
}

// claimed is the node that a name is for; empty: none.
func (k *Keeper) claimed(name string) string {
	best := ""
	for device, c := range k.claims {
		if slices.Contains(c.links, name) && (best == "" || device < best) {
			best = device
		}
	}
	return k.claims[best].node
}

// point makes name a link to node, or removes it if node is empty. It replaces only links that are ours.
func point(dev *os.Root, name, node string, ours bool) error {
	if ours {
		if err := dev.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove name of device: %w", err)
		}
	}
	if node == "" {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if dev.Remove(dir) != nil {
				break // something else is in it
			}
		}
		return nil
	}
	if dir := path.Dir(name); dir != "." {
		if err := dev.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("name device: %w", err)
		}
	}
	up := strings.Repeat("../", strings.Count(name, "/"))
	if err := dev.Symlink(up+node, name); err != nil {
		return fmt.Errorf("name device: %w", err)
	}
	return nil
}

// record keeps what was placed for the next life.
func (k *Keeper) record() error {
	text, err := json.Marshal(k.placed)
	if err != nil {
		return err
	}
	return atomicfile.Write(k.Record, text, 0o600)
}

func (k *Keeper) recorded() map[string]string {
	placed := map[string]string{}
	text, err := os.ReadFile(k.Record)
	if err != nil || json.Unmarshal(text, &placed) != nil || placed == nil {
		return map[string]string{} // there was no earlier life that gave names
	}
	maps.DeleteFunc(placed, func(name, _ string) bool { return !filepath.IsLocal(name) })
	return placed
}
