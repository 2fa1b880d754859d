package shipped

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"resinos/services/graph"
	"resinos/services/spec"
	"resinos/services/spec/definition"
)

func TestEveryFileIsRight(t *testing.T) {
	for variant, want := range map[string]string{
		"production": "configd confirm containerd devd grow logd modem netd netrun proxy splash sshd updater " +
			"vpn wifi zram",
		"development": "configd confirm containerd devd docker getty grow logd modem netd netrun proxy " +
			"splash sshd updater vpn wifi zram",
		// Of these, a recovery root has those that images/rootfs names.
		"recovery": "configd confirm containerd devd getty grow logd modem netd netrun proxy recovery sshd " +
			"updater vpn wifi zram",
		"standalone": "configd confirm containerd devd docker getty grow logd modem netd netrun proxy " +
			"splash sshd updater vpn wifi zram",
	} {
		files, err := Variant(variant)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		var nodes []graph.Node
		for _, f := range files {
			names = append(names, f.Spec.Name)
			nodes = append(nodes, graph.Node{Name: f.Spec.Name, Needs: f.Spec.Needs, Wants: f.Spec.Wants,
				After: f.Spec.After, Conflicts: f.Spec.Conflicts})
			if len(f.Data) == 0 || f.Name != f.Spec.Name+".toml" {
				t.Errorf("Variant(%q): file %s holds %d bytes", variant, f.Name, len(f.Data))
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("Variant(%q) = %s, want %s", variant, got, want)
		}
		if g := graph.Build(nodes); len(g.Faults) > 0 {
			t.Errorf("Variant(%q) has order faults: %v", variant, g.Faults)
		}
	}
}

// TestWhoOutlivesItsDeath: containers, what people left running in a session, and hooks, which the next netrun kills.
func TestWhoOutlivesItsDeath(t *testing.T) {
	for _, s := range all(t) {
		process := s.KillMode == spec.Process
		if process != (s.Name == "containerd" || s.Name == "sshd" || s.Name == "netrun") {
			t.Errorf("%s has kill mode %s", s.Name, s.KillMode)
		}
	}
}

func TestNoFileIsLeftOut(t *testing.T) {
	onDisk, err := fs.Glob(os.DirFS("."), "*.toml")
	if err != nil {
		t.Fatal(err)
	}
	var loaded []string
	for _, s := range all(t) {
		loaded = append(loaded, s.Name+".toml")
	}
	if !slices.Equal(onDisk, loaded) {
		t.Errorf("embedded %v, on disk %v", loaded, onDisk)
	}
}

// TestClosedServices: what lets people in does so only in the development mode, and ssh where the owner has named keys.
func TestClosedServices(t *testing.T) {
	for service, want := range map[string]string{"getty": "developmentMode=true", "docker": "developmentMode=true"} {
		files, err := Variant("development")
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(files, func(f File) bool { return f.Name == service+".toml" })
		if got := fmt.Sprint(files[at].Spec.Conditions); got != `[condition-config "`+want+`"]` {
			t.Errorf("%s has conditions %s", service, got)
		}
	}
	const want = `[condition-config "os.sshKeys|developmentMode=true"]`
	for _, variant := range []string{"production", "development", "standalone"} {
		files, err := Variant(variant)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if f.Name != "sshd.toml" {
				continue
			}
			again, err := definition.Parse(f.Name, f.Data) // as the device reads it
			if got := fmt.Sprint(again.Conditions); err != nil || got != want || again.Start != spec.OnDemand ||
				len(again.Listen.Sockets) != 1 {
				t.Errorf("%s: sshd has conditions %s, want %s; starts %s, listens on %v; %v", variant, got, want,
					again.Start, again.Listen.Sockets, err)
			}
		}
	}
}

func all(t *testing.T) []spec.Spec {
	specs, errs := definition.Load(definition.Layer{FS: Files, Dir: "."})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return specs
}
