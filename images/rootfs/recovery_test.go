package rootfs

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"resinos/bsp/slot"
	"resinos/images/assemble"
	"resinos/mounts/testenv"
	"resinos/services/spec/definition"
)

// recoveryRoot lays out the recovery root that goes with the root of development images.
func recoveryRoot(t *testing.T) (table Table, root, recovery *assemble.Tree) {
	t.Helper()
	table, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	in := inputs(t, "development")
	if root, err = table.Root(in); err != nil {
		t.Fatal(err)
	}
	if recovery, err = table.Recovery.tree(root); err != nil {
		t.Fatal(err)
	}
	return table, root, recovery
}

func TestRecoveryGolden(t *testing.T) {
	table, root, recovery := recoveryRoot(t)
	testenv.Golden(t, "recovery.golden", list(recovery))
	for _, pattern := range table.Recovery.Without {
		if !slices.ContainsFunc(root.Entries(), func(e assemble.Entry) bool { return matches(pattern, e.Path) }) {
			t.Errorf("nothing in the root matches %s", pattern)
		}
	}
}

// TestRecoveryServices: each service has its program, and no link leads to a program that is left out.
func TestRecoveryServices(t *testing.T) {
	table, _, recovery := recoveryRoot(t)
	count := 0
	for _, e := range recovery.Entries() {
		if e.Target != "" && !strings.HasPrefix(e.Target, "/run/") && !strings.HasPrefix(e.Target, "/proc/") {
			target := strings.TrimPrefix(filepath.Join("/", filepath.Dir(e.Path), e.Target), "/")
			if _, there := recovery.Lookup(target); !there {
				t.Errorf("%s is a link to %s, which is not there", e.Path, target)
			}
		}
		name, is := strings.CutPrefix(e.Path, servicesDirectory)
		if !is || e.Mode.IsDir() {
			continue
		}
		s, err := definition.Parse(name, e.Content)
		if err != nil {
			t.Fatal(err)
		}
		count++
		if _, there := recovery.Lookup(strings.TrimPrefix(s.Command[0], "/")); !there {
			t.Errorf("%s: the recovery root has no %s", name, s.Command[0])
		}
	}
	if count != len(table.Recovery.Services) {
		t.Errorf("%d services, want %d", count, len(table.Recovery.Services))
	}
}

// TestRecoveryRoot: the slot of development images has one, the others have none; one that is too large ends the build.
func TestRecoveryRoot(t *testing.T) {
	table, root, _ := recoveryRoot(t)
	dir, written := t.TempDir(), map[string]bool{}
	stage := func(name, _ string, _ Writer) (string, error) {
		written[name] = true
		file := filepath.Join(dir, name)
		return file, os.WriteFile(file, []byte("squashfs"), 0o644)
	}
	for _, variant := range []string{"production", "standalone"} {
		tree, err := table.Root(inputs(t, variant))
		if err != nil {
			t.Fatal(err)
		}
		if _, files, err := table.Finish(tree, inputs(t, variant), 0, stage); len(files) > 0 || err != nil ||
			written["recovery"] {
			t.Errorf("%s: files %v, %v", variant, files, err)
		}
	}
	_, files, err := table.Finish(root, inputs(t, "development"), 0, stage)
	if err != nil || files[slot.Recovery] != filepath.Join(dir, "recovery") || len(files) != 1 {
		t.Errorf("files %v, %v", files, err)
	}
	clear(written)
	if _, err := table.recoveryRoot(root, inputs(t, "development"), 0, stage); err != nil || !written["tools"] ||
		written["nft"] || written["uplinks"] {
		t.Errorf("the recovery root packs %v, %v", written, err)
	}
	table.Recovery.Limit = 7
	if _, _, err := table.Finish(root, inputs(t, "development"), 0, stage); err == nil ||
		!strings.Contains(err.Error(), "recovery root: 8 bytes, at most 7") {
		t.Errorf("a recovery root that is too large: %v", err)
	}
	fails := func(string, string, Writer) (string, error) { return "", context.Canceled }
	if _, _, err := table.Finish(root, inputs(t, "development"), 0, fails); err == nil {
		t.Error("a recovery root that cannot be written is no fault")
	}
}

// TestRecoveryFaults: what the table names and the images lack is told.
func TestRecoveryFaults(t *testing.T) {
	_, root, _ := recoveryRoot(t)
	for want, r := range map[string]Recovery{
		"no service is called absent": {Services: []string{"logd", "absent"}},
		"add usr/sbin/init to tree":   {Links: []Link{{Path: "usr/sbin/init", Target: "x"}}},
	} {
		if _, err := r.tree(root); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("tree = %v, want %q", err, want)
		}
	}
}
