package wifi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"resinos/mounts/atomicfile"
	"resinos/net/wpa"
)

// reconcile makes the supplicant's radios and networks those that are wanted. What is there already and unchanged is
// not touched.
func (d *Driver) reconcile(ctx context.Context) {
	d.again = time.Time{}
	if d.client == nil {
		if d.needed() {
			d.connect(ctx) // which reconciles, if somebody answers
		}
		d.forget()
		return
	}
	reply, err := d.client.Request(ctx, "INTERFACES")
	if err != nil {
		if ctx.Err() == nil {
			d.lost(err.Error())
		}
		return
	}
	there := strings.Fields(reply)
	for _, name := range there {
		if _, wanted := d.wanted.Radios[name]; !wanted && !d.scanned(name) {
			d.do(ctx, "INTERFACE_REMOVE "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.wanted.Radios)) {
		if err := d.radio(ctx, name, slices.Contains(there, name)); err != nil {
			d.again = time.Now().Add(retryEvery)
			s := d.states[name]
			s.Phase, s.Reason = Starting, err.Error()
			d.states[name] = s
			continue
		}
		before := d.states[name]
		d.read(ctx, name)
		d.report(name, before)
	}
	d.forget()
	d.dropCertificates()
}

// forget drops the states of radios that nobody wants.
func (d *Driver) forget() {
	maps.DeleteFunc(d.states, func(name string, _ State) bool {
		_, wanted := d.wanted.Radios[name]
		return !wanted
	})
	d.publish()
}

// do sends a command whose failure only costs itself.
func (d *Driver) do(ctx context.Context, command string) bool {
	err := d.client.Do(ctx, command)
	if err != nil && ctx.Err() == nil {
		d.cfg.Log.Debug("wifi command refused", "error", err)
	}
	return err == nil
}

// add gives the supplicant a radio.
func (d *Driver) add(ctx context.Context, name string) error {
	command := "INTERFACE_ADD " + strings.Join([]string{name, d.cfg.Conf, d.cfg.Module}, "\t")
	if err := d.client.Do(ctx, command); err != nil {
		return fmt.Errorf("take radio %s: %w", name, err)
	}
	delete(d.country, name)
	return nil
}

// radio makes one radio what is wanted of it.
func (d *Driver) radio(ctx context.Context, name string, there bool) error {
	if !there {
		if err := d.add(ctx, name); err != nil {
			return err
		}
	}
	d.settings(ctx, name)
	reply, err := d.client.Request(ctx, wpa.On(name, "LIST_NETWORKS"))
	if err != nil {
		return err
	}
	missing := map[string]Network{}
	for _, n := range d.wanted.Radios[name] {
		if n.Fault == "" {
			missing[n.id()] = n
		}
	}
	for _, number := range wpa.NetworkIDs(reply) {
		known, err := d.client.Request(ctx, wpa.On(name, "GET_NETWORK "+number+" id_str"))
		id := strings.Trim(known, `"`)
		if _, wanted := missing[id]; err != nil || !wanted {
			d.do(ctx, wpa.On(name, "REMOVE_NETWORK "+number))
			continue
		}
		delete(missing, id)
	}
	if len(missing) > 0 { // what was known of others does not count for these
		s := d.states[name]
		s.Reason, s.rejects = "", nil
		if s.Phase == Refused {
			s.Phase = Searching
		}
		d.states[name] = s
	}
	var faults []error
	for _, id := range slices.Sorted(maps.Keys(missing)) {
		faults = append(faults, d.network(ctx, name, id, missing[id]))
	}
	return errors.Join(faults...)
}

// settings makes what concerns the radio itself. The address for scans is the driver's choice at each scan.
func (d *Driver) settings(ctx context.Context, name string) {
	if c := d.wanted.Country; c != d.country[name] && d.do(ctx, wpa.On(name, "SET country "+cmpCountry(c))) {
		d.country[name] = c
	}
	random := "MAC_RAND_SCAN all enable=1"
	if d.wanted.OpenScan {
		random = "MAC_RAND_SCAN all enable=0"
	}
	d.do(ctx, wpa.On(name, random))
	if d.cfg.Module == usualModule {
		if err := powerSaveOff(name); err != nil {
			d.cfg.Log.Debug("power save not switched off", "error", err) // some radios have none
		}
	}
}

// cmpCountry returns the country that stands for none.
func cmpCountry(c string) string {
	if c == "" {
		return "00"
	}
	return c
}

// network adds one network to a radio. A network that is refused is not there afterwards.
func (d *Driver) network(ctx context.Context, name, id string, n Network) error {
	reply, err := d.client.Request(ctx, wpa.On(name, "ADD_NETWORK"))
	number := strings.TrimSpace(reply)
	if _, bad := strconv.ParseUint(number, 10, 31); err != nil || bad != nil {
		return errors.Join(err, bad)
	}
	settings := append(slices.Clone(n.Settings), Setting{Name: "id_str", Value: wpa.Hex(id)})
	for _, s := range settings {
		if err = d.writeCertificate(s); err != nil {
			break
		}
		if err = d.client.Do(ctx, wpa.On(name, "SET_NETWORK "+number+" "+s.Name+" "+s.Value)); err != nil {
			err = fmt.Errorf("%s: %w", n.File, err)
			break
		}
	}
	if err == nil {
		err = d.client.Do(ctx, wpa.On(name, "ENABLE_NETWORK "+number))
	}
	if err != nil {
		d.do(ctx, wpa.On(name, "REMOVE_NETWORK "+number))
	}
	return err
}

func (d *Driver) writeCertificate(s Setting) error {
	if s.Content == nil {
		return nil
	}
	path := d.certificateOf(s)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(path, s.Content, 0o600)
}

// certificateOf returns the file of a setting with content.
func (d *Driver) certificateOf(s Setting) string {
	return string(unhex(s.Value))
}

// dropCertificates removes the files that no network names any more.
func (d *Driver) dropCertificates() {
	used := map[string]bool{}
	for _, networks := range d.wanted.Radios {
		for _, n := range networks {
			for _, s := range n.Settings {
				if s.Content != nil {
					used[d.certificateOf(s)] = true
				}
			}
		}
	}
	list, _ := os.ReadDir(d.Certificates()) // usually there is none
	for _, f := range list {
		if path := filepath.Join(d.Certificates(), f.Name()); !used[path] {
			_ = os.Remove(path) // it is in RAM, and readable by root only
		}
	}
}

// event handles what the supplicant says.
func (d *Driver) event(ctx context.Context, e wpa.Event) {
	if e.Name == "CTRL-EVENT-TERMINATING" && e.Link == "" {
		d.lost("it ends")
		return
	}
	for _, s := range d.scans {
		s.heard(e)
	}
	before, wanted := d.states[e.Link]
	if !wanted {
		return
	}
	next, refresh := before.Event(e)
	d.states[e.Link] = next
	if refresh {
		d.read(ctx, e.Link)
	}
	d.report(e.Link, before)
}

// read reads the state of a radio.
func (d *Driver) read(ctx context.Context, name string) {
	reply, err := d.client.Request(ctx, wpa.On(name, "STATUS"))
	if err != nil {
		return // the next ping finds out
	}
	d.states[name] = d.states[name].Status(reply, wpa.Pairs(reply)["id_str"])
}

// signal reads how well a radio hears its access point.
func (d *Driver) signal(ctx context.Context, name string) {
	reply, err := d.client.Request(ctx, wpa.On(name, "SIGNAL_POLL"))
	if err != nil {
		return
	}
	s := d.states[name]
	s.Signal, _ = strconv.Atoi(wpa.Pairs(reply)["RSSI"])
	d.states[name] = s
}

// report logs and publishes a state that has changed.
func (d *Driver) report(name string, before State) {
	now := d.states[name]
	if now.Words() == before.Words() && now.File == before.File {
		return
	}
	d.cfg.Log.Info("wifi state", "link", name, "state", now.Words(), "file", now.File)
	d.publish()
}

// publish tells the owner of the driver, and writes down which network each radio is in for the next netd.
func (d *Driver) publish() {
	joined := map[string]string{}
	for name, s := range d.states {
		if s.File != "" {
			joined[name] = s.File
		}
	}
	if !maps.Equal(joined, d.readJoined()) {
		text, err := json.Marshal(joined)
		if err == nil {
			err = atomicfile.Write(filepath.Join(d.cfg.Directory, joinedFile), text, 0o600)
		}
		if err != nil {
			d.cfg.Log.Warn("wifi state not written", "error", err)
		}
	}
	d.cfg.Changed(maps.Clone(d.states))
}

// readJoined reads what publish has written. Without it nothing is known.
func (d *Driver) readJoined() map[string]string {
	out := map[string]string{}
	text, err := os.ReadFile(filepath.Join(d.cfg.Directory, joinedFile))
	if err != nil || json.Unmarshal(text, &out) != nil {
		return map[string]string{}
	}
	return out
}
