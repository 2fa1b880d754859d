package rootfs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"resinos/images/assemble"
	"resinos/mounts/attach"
	"resinos/mounts/packed"
	"resinos/mounts/persist"
	"resinos/mounts/testenv"
	"resinos/services/shipped"
)

// inputs makes stand-ins for everything the table wants.
func inputs(t *testing.T, variant string) Inputs {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	programs := []string{"init", "initramfs", "engine", "tools", "containerd-shim-runc-v2", "sshd", "netd",
		"dockerd"}
	for _, p := range programs {
		write("bin/"+p, p)
	}
	write("busybox/usr/bin/busybox", "busybox")
	write("certificates/usr/share/ca-certificates/mozilla/B.crt", "second")
	write("certificates/usr/share/ca-certificates/mozilla/A.crt", "first\n")
	packages := map[string]string{"busybox-static": filepath.Join(dir, "busybox"),
		"ca-certificates": filepath.Join(dir, "certificates")}
	table, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range table.Packages { // each file that a pattern finds, with some version for the rest of its name
		if packages[p.Name] == "" {
			packages[p.Name] = filepath.Join(dir, "packages", p.Name)
		}
		if filepath.Dir(packages[p.Name]) == filepath.Join(dir, "packages") {
			file := strings.NewReplacer("*-linux-", "some-linux-", "*", "1").Replace(p.Source)
			write(filepath.Join("packages", p.Name, file), file)
		}
	}
	write("state.ext4", "an empty file system")
	write("data.ext4", "another")
	modules := &assemble.Tree{}
	if err := modules.Add(assemble.Entry{Path: "usr/lib/modules/6.12/modules.dep", Mode: 0o644,
		Content: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	return Inputs{
		Board: "some-board", Variant: variant, Version: "1.2.3", Programs: filepath.Join(dir, "bin"),
		Packages: packages, Blanks: map[string]string{"state": filepath.Join(dir, "state.ext4"),
			"data": filepath.Join(dir, "data.ext4")},
		Services: map[string][]byte{"logd.toml": []byte("x")}, Modules: modules,
	}
}

func list(tree *assemble.Tree) string {
	var b strings.Builder
	for _, e := range tree.Entries() {
		fmt.Fprintf(&b, "%v %s", e.Mode, e.Path)
		if e.Target != "" {
			fmt.Fprintf(&b, " -> %s", e.Target)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestRootGolden(t *testing.T) {
	table, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, variant := range Variants() {
		tree, err := table.Root(inputs(t, variant))
		if err != nil {
			t.Fatal(err)
		}
		testenv.Golden(t, variant+".golden", list(tree))
	}
	tree, err := table.Initramfs(inputs(t, "production"), inputs(t, "production").Modules, []string{"ext4", "loop"})
	if err != nil {
		t.Fatal(err)
	}
	testenv.Golden(t, "initramfs.golden", list(tree))
	if e, _ := tree.Lookup("etc/modules"); string(e.Content) != "ext4\nloop\n" {
		t.Errorf("etc/modules = %q", e.Content)
	}
}

// TestTargetsExist walks the tables of mounts/: on a read-only root a missing target cannot be made.
func TestTargetsExist(t *testing.T) {
	table, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := table.Root(inputs(t, "production"))
	if err != nil {
		t.Fatal(err)
	}
	binds, err := persist.Table()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range binds {
		e, ok := tree.Lookup(strings.TrimPrefix(b.Path, "/"))
		if !ok || e.Mode.IsDir() != (b.Kind == persist.Directory) {
			t.Errorf("target of %v: there %v, mode %v", b, ok, e.Mode)
		}
	}
	mounts, err := attach.Table()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		name := strings.TrimPrefix(m.Target, "/")
		top, _, _ := strings.Cut(name, "/")
		if _, ok := tree.Lookup(name); !ok && !slices.Contains([]string{"dev", "sys", "run", "proc"}, top) {
			t.Errorf("target of mount %s does not exist", m.Target)
		}
	}
}

// TestProductionHasNoWayIn wants neither shell nor login program in the production root; its sshd opens to the owner's
// keys alone.
func TestProductionHasNoWayIn(t *testing.T) {
	table, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := table.Root(inputs(t, "production"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"usr/bin/sh", "usr/bin/busybox", "usr/sbin/getty"} {
		if _, ok := tree.Lookup(name); ok {
			t.Errorf("production root holds %s", name)
		}
	}
	if e, ok := tree.Lookup("etc/ssl/certs/ca-certificates.crt"); !ok || string(e.Content) != "first\nsecond\n" {
		t.Errorf("certificates = %q, %v", e.Content, ok)
	}
}

// TestPartLeftOut: an image without a part needs nothing of it, and a production image has no part at all.
func TestPartLeftOut(t *testing.T) {
	table, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	in := inputs(t, "development")
	in.Without = table.Parts()
	if err := os.Remove(filepath.Join(in.Programs, "dockerd")); err != nil {
		t.Fatal(err)
	}
	without, err := table.Root(in)
	if err != nil {
		t.Fatal(err)
	}
	production, err := table.Root(inputs(t, "production"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bin/dockerd", "bin/docker", "bin/runc"} {
		name = "usr/" + name
		if _, ok := without.Lookup(name); ok {
			t.Errorf("without %v the root has %s", in.Without, name)
		}
		if _, ok := production.Lookup(name); ok {
			t.Errorf("a production root has %s", name)
		}
	}
}

func TestMissingInputsAreAllNamed(t *testing.T) {
	table, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	in := inputs(t, "development")
	in.Packages = nil
	in.Programs = t.TempDir()
	in.Known = func([]byte, string) bool { return false }
	_, err = table.Root(in)
	for _, want := range []string{"program init", "program engine", "make build",
		"package busybox-static is not in the lock", "resin bsp lock some-board"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Root() error lacks %q: %v", want, err)
		}
	}
}

func TestUnknownAppletIsAFault(t *testing.T) {
	table, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	in := inputs(t, "development")
	in.Known = func(_ []byte, applet string) bool { return applet != "ls" }
	if _, err := table.Root(in); err == nil || !strings.Contains(err.Error(), "no applet ls") {
		t.Errorf("Root() = %v", err)
	}
}

func TestParseFaults(t *testing.T) {
	for text, want := range map[string]string{
		"[[directory]]\npath = \"x\"":                            "unknown key directory.path",
		"[[link]]\npath = \"x\"\nvariants = [\"produktion\"]":    `unknown variant "produktion"`,
		"[[file]]\npath = \"x\"\nmode = \"999\"":                 "octal",
		"[[file]":                                                "parse f:",
		"[busybox]\nvariants = [\"a\"]\n[initramfs]\nfoo = \"\"": "unknown key initramfs.foo",
	} {
		if _, err := Parse("f", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(builtin)
	f.Add("[[file]]\npath = \"x\"\nmode = \"0644\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		if table, err := Parse("f", text); err == nil {
			for _, d := range table.Directories {
				if d.Mode.or(0o755)&^0o7777 != 0 {
					t.Errorf("mode %o", d.Mode)
				}
			}
		}
	})
}

// TestIssue: what others look for in a root of this kind is there.
func TestIssue(t *testing.T) {
	table, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	root, err := table.Root(inputs(t, "production"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"etc/issue": "resinOS 1.2.3 (production) \\n \\l\n\n", "etc/issue.net": "resinOS 1.2.3\n",
		"usr/lib/os-release": "\nMACHINE=\"some-board\"\nSLUG=\"some-board\"\n",
	} {
		if e, there := root.Lookup(name); !there || !strings.Contains(string(e.Content), want) {
			t.Errorf("%s has %q, want %q", name, e.Content, want)
		}
	}
}

func TestOSRelease(t *testing.T) {
	in := Inputs{Version: "1.2.3", Board: "b", Variant: "production"}
	if text := string(OSRelease(in)); strings.Contains(text, "BUILD_TIME") {
		t.Errorf("an image of unknown age says one:\n%s", text)
	}
	in.Built = time.Date(2026, 11, 25, 11, 0, 0, 0, time.FixedZone("", 3600))
	if text := string(OSRelease(in)); !strings.Contains(text, "\nRESIN_BUILD_TIME=\"2026-11-25T10:00:00Z\"\n") {
		t.Errorf("os-release:\n%s", text)
	}
}

// TestSplit takes the packed programs out of each root, and finds one for every service that asks for it.
func TestSplit(t *testing.T) {
	table, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := table.Root(inputs(t, "production"))
	if err != nil {
		t.Fatal(err)
	}
	rest, packs, err := table.Split(tree, "production")
	if err != nil {
		t.Fatal(err)
	}
	if e, there := rest.Lookup("usr/lib/packed/tools"); !there || !e.Mode.IsDir() {
		t.Errorf("the directory of the tools is %v, %t", e, there)
	}
	if _, there := rest.Lookup("usr/lib/packed/tools/tools"); there {
		t.Error("the program is in the root too")
	}
	files, err := shipped.Variant("production")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		all := f.Spec.Confinement.Packed
		for _, name := range all {
			if packs[name] == nil {
				t.Fatalf("%s: there is no packed program %q", f.Name, name)
			}
		}
		if len(all) == 0 {
			continue
		}
		name := all[0]
		program, err := filepath.Rel(packed.Path(name), f.Spec.Command[0])
		if e, there := rest.Lookup(strings.TrimPrefix(f.Spec.Command[0], "/")); there && e.Target != "" {
			target := filepath.Join(filepath.Dir(f.Spec.Command[0]), e.Target)
			program, err = filepath.Rel(packed.Path(name), target)
		}
		if err != nil {
			t.Fatalf("%s: packed program %q: %v", f.Name, name, err)
		}
		if e, there := packs[name].Lookup(program); !there || e.Mode&0o111 == 0 {
			t.Errorf("%s: %s has no program %s", f.Name, name, program)
		}
	}
	if err := tree.Add(assemble.Entry{Path: "usr/lib/packed/other/x", Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := table.Split(tree, "production"); err == nil {
		t.Error("a file of no packed program is accepted")
	}
}
