package updater

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"testing"

	"resinos/bsp/bundle"
	"resinos/bsp/slot"
	"resinos/bsp/update"
	"resinos/init/updatecontrol"
)

// TestKnownIndex: the index of what was installed is used when that runs, and only then.
func TestKnownIndex(t *testing.T) {
	b := newBench(t)
	running := bytes.NewReader(nil)
	listed := func() bool { _, is := b.device.seed(running).(bundle.Listed); return is }
	if listed() {
		t.Error("a slot that no update has written has an index")
	}
	asked := updatecontrol.Install{Source: b.bundle(2, same), NoReboot: true}
	if _, err := b.client.Install(t.Context(), asked); err != nil {
		t.Fatal(err)
	}
	if p := b.ends(); p.Error != "" {
		t.Fatalf("it ended with %+v", p)
	}
	if listed() {
		t.Error("slot A has the index of slot B")
	}
	b.device.booted = slot.B
	if !listed() {
		t.Fatal("slot B has no index")
	}
	r, err := update.Read(b.device.record)
	if err != nil {
		t.Fatal(err)
	}
	other := r
	other.Put(slot.B, update.Content{Version: "2.0.0", Digest: "another"})
	text := b.read("slot-B.index")
	for name, spoil := range map[string]func(){
		"of another version": func() {
			if err := other.Write(b.device.record); err != nil {
				t.Fatal(err)
			}
		},
		"damaged": func() { b.file("slot-B.index", append(bytes.Clone(text), 'x')) },
		"empty":   func() { b.file("slot-B.index", nil) },
	} {
		if err := r.Write(b.device.record); err != nil {
			t.Fatal(err)
		}
		b.file("slot-B.index", text)
		spoil()
		if listed() {
			t.Errorf("%s: it is used", name)
		}
		if _, err := os.Stat(b.device.indexFile(slot.B)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: it is kept: %v", name, err)
		}
	}
	if listed() {
		t.Error("an index that is not there is used")
	}
}

// TestIndexNotKept: a state partition that takes no index does not end the update.
func TestIndexNotKept(t *testing.T) {
	b := newBench(t)
	if err := os.Mkdir(b.device.indexFile(slot.B), 0o700); err != nil { // nothing can take this name
		t.Fatal(err)
	}
	b.file("slot-B.index/x", nil)
	asked := updatecontrol.Install{Source: b.bundle(2, same), NoReboot: true}
	if _, err := b.client.Install(t.Context(), asked); err != nil {
		t.Fatal(err)
	}
	if p := b.ends(); p.Phase != updatecontrol.Done || p.Error != "" {
		t.Errorf("it ended with %+v", p)
	}
}
