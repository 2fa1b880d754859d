package wifi

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"resinos/net/wpa"
)

// ErrNoRadio says that the device has no radio, or that its module is not loaded.
var ErrNoRadio = errors.New("the device has no radio for Wi-Fi")

// scan is a look around that somebody has asked for.
type scan struct {
	radios map[string]bool // those whose result is missing
	until  time.Time
	found  []wpa.BSS
	done   chan struct{} // closed when found is complete
}

const (
	scanLimit  = 20 * time.Second // the supplicant has to start, and to switch the radio on
	maxBSS     = 400
	scanEvents = "CTRL-EVENT-SCAN-RESULTS"
)

// Scan looks which access points are in range of the radios, the best signal first. The supplicant is started for it if
// it does not run.
func (d *Driver) Scan(ctx context.Context, radios []string) ([]wpa.BSS, error) {
	if len(radios) == 0 {
		return nil, ErrNoRadio
	}
	s := &scan{radios: map[string]bool{}, until: time.Now().Add(scanLimit), done: make(chan struct{})}
	for _, name := range radios {
		s.radios[name] = true
	}
	err := d.within(ctx, func(ctx context.Context) {
		d.scans = append(d.scans, s)
		d.demand(time.Now())
		if d.client != nil {
			d.beginScan(ctx, s)
		}
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return s.found, nil
}

// scanned reports whether a scan needs the radio.
func (d *Driver) scanned(name string) bool {
	return slices.ContainsFunc(d.scans, func(s *scan) bool { return s.radios[name] })
}

// beginScan has every radio of a scan look around.
func (d *Driver) beginScan(ctx context.Context, s *scan) {
	reply, err := d.client.Request(ctx, "INTERFACES")
	if err != nil {
		return // the ping finds out
	}
	for name := range s.radios {
		if !slices.Contains(strings.Fields(reply), name) {
			if err := d.add(ctx, name); err != nil {
				d.cfg.Log.Warn("radio not scanned", "link", name, "error", err)
				delete(s.radios, name)
				continue
			}
			d.settings(ctx, name)
		}
		if err := d.client.Do(ctx, wpa.On(name, "SCAN")); err != nil && d.states[name].Phase == Serving {
			delete(s.radios, name) // an access point does not look around
		}
	}
}

// heard notes that a radio has looked around.
func (s *scan) heard(e wpa.Event) {
	if e.Name == scanEvents {
		delete(s.radios, e.Link)
	}
}

// answerScans ends the scans that are complete or too late. What is known by then is the answer.
func (d *Driver) answerScans(ctx context.Context, now time.Time) {
	ended := false
	d.scans = slices.DeleteFunc(d.scans, func(s *scan) bool {
		if len(s.radios) > 0 && now.Before(s.until) {
			return false
		}
		s.found = d.found(ctx)
		close(s.done)
		ended = true
		return true
	})
	if ended && !d.needed() {
		d.quiet = now
	}
}

// found reads which access points the supplicant knows, on all radios.
func (d *Driver) found(ctx context.Context) []wpa.BSS {
	if d.client == nil {
		return nil
	}
	interfaces, err := d.client.Request(ctx, "INTERFACES")
	if err != nil {
		return nil
	}
	best := map[string]wpa.BSS{} // by address: two radios may hear the same one
	for _, name := range strings.Fields(interfaces) {
		next := "BSS FIRST"
		for range maxBSS {
			reply, err := d.client.Request(ctx, wpa.On(name, next))
			b, ok := wpa.ParseBSS(reply)
			if err != nil || !ok {
				break
			}
			if old, there := best[b.Address]; !there || b.Signal > old.Signal {
				best[b.Address] = b
			}
			next = "BSS NEXT-" + strconv.Itoa(b.ID)
		}
	}
	out := make([]wpa.BSS, 0, len(best))
	for _, b := range best {
		out = append(out, b)
	}
	slices.SortStableFunc(out, func(a, b wpa.BSS) int {
		return cmp.Or(cmp.Compare(b.Signal, a.Signal), cmp.Compare(a.SSID, b.SSID), cmp.Compare(a.Address, b.Address))
	})
	return out
}

// unhex reads what wpa.Hex wrote.
func unhex(text string) []byte {
	b, _ := hex.DecodeString(text)
	return b
}
