package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"resinos/bsp/bundle/trust"
	"resinos/bsp/hardware"
	"resinos/images/assemble"
	"resinos/images/unwind"
	"resinos/mounts/attach"
	"resinos/mounts/fsck"
	"resinos/mounts/persist"
)

// Inputs are the things that the table refers to.
type Inputs struct {
	Board    string
	Variant  string
	Arch     string // as Go names it
	Version  string
	Without  []string                                 // parts that are left out
	Built    time.Time                                // build time, at which the clock of a device starts; zero: none
	Programs string                                   // host directory of the binaries
	Packages map[string]string                        // host directory of each unpacked package
	Services map[string][]byte                        // service files by name
	Modules  *assemble.Tree                           // of the root, below usr/lib/modules
	Firmware *assemble.Tree                           // below usr/lib/firmware
	Trust    []byte                                   // the trust file: the keys that updates have to be signed with
	Hardware hardware.Hardware                        // what the board names of hardware that a device can set
	Blanks   map[string]string                        // host files of empty file systems, by the names of mounts/purge
	Known    func(busybox []byte, applet string) bool // reports whether a busybox has an applet; nil trusts the table
}

// Root returns the content of a device's root.
func (t Table) Root(in Inputs) (*assemble.Tree, error) {
	l := laying{in: in, tree: &assemble.Tree{}}
	l.directories(t.Directories)
	l.mountPoints()
	for _, f := range t.Files {
		if carries(f.In, in.Variant) {
			l.add(assemble.Entry{Path: f.Path, Mode: f.Mode.or(0o644),
				Content: []byte(strings.TrimPrefix(f.Text, "\n"))})
		}
	}
	l.add(assemble.Entry{Path: "usr/lib/os-release", Mode: 0o644, Content: OSRelease(in)})
	// getty(8) inserts host and line
	l.add(assemble.Entry{Path: "etc/issue", Mode: 0o644, Content: fmt.Appendf(nil, "resinOS %s (%s) \\n \\l\n\n",
		in.Version, in.Variant)})
	l.add(assemble.Entry{Path: "etc/issue.net", Mode: 0o644, Content: fmt.Appendf(nil, "resinOS %s\n", in.Version)})
	l.link("etc/os-release", "../usr/lib/os-release")
	for _, k := range t.Links {
		if carries(k.In, in.Variant) && !slices.Contains(in.Without, k.Part) {
			l.link(k.Path, k.Target)
		}
	}
	l.programs(t.Programs)
	l.packages(t.Packages)
	l.busybox(t.Busybox)
	file := strings.TrimPrefix(trust.Directory, "/") + "/" + trust.File
	l.add(assemble.Entry{Path: file, Mode: 0o644, Content: in.Trust})
	if !in.Hardware.Empty() {
		text, err := in.Hardware.Encode()
		if err != nil {
			l.fault(err)
		}
		l.add(assemble.Entry{Path: strings.TrimPrefix(hardware.File, "/"), Mode: 0o644, Content: text})
	}
	for name, text := range in.Services {
		l.add(assemble.Entry{Path: "usr/lib/resinos/services/" + name, Mode: 0o644, Content: text})
	}
	for name, file := range in.Blanks {
		l.add(assemble.Entry{Path: strings.TrimPrefix(fsck.Template(name), "/"), Mode: 0o644, Source: file})
	}
	l.graft(in.Modules)
	l.graft(in.Firmware)
	l.bindTargets()
	l.faults = append(l.faults, closed(l.tree, in.Variant)...)
	return l.tree, errors.Join(l.faults...)
}

// Initramfs returns the content of the initramfs. modules are those that stage 1 loads with their dependencies, names
// the list in load order.
func (t Table) Initramfs(in Inputs, modules *assemble.Tree, names []string) (*assemble.Tree, error) {
	l := laying{in: in, tree: &assemble.Tree{}}
	for _, d := range t.Early.Directories {
		l.add(assemble.Entry{Path: d, Mode: fs.ModeDir | 0o755})
	}
	if file, ok := l.binary("initramfs"); ok {
		l.add(assemble.Entry{Path: "init", Mode: 0o755, Source: file})
	}
	// The kernel opens it before anything is mounted, as descriptors 0-2 of /init.
	l.add(assemble.Entry{Path: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600,
		Device: assemble.Device{Major: 5, Minor: 1}})
	l.add(assemble.Entry{Path: "etc/modules", Mode: 0o644, Content: []byte(strings.Join(names, "\n") + "\n")})
	l.add(assemble.Entry{Path: "etc/os-release", Mode: 0o644, Content: OSRelease(in)})
	l.graft(modules)
	return l.tree, errors.Join(l.faults...)
}

// laying collects entries and faults.
type laying struct {
	in     Inputs
	tree   *assemble.Tree
	faults []error
}

func (l *laying) add(e assemble.Entry) {
	if err := l.tree.Add(e); err != nil {
		l.faults = append(l.faults, err)
	}
}

func (l *laying) link(name, target string) {
	l.add(assemble.Entry{Path: name, Mode: fs.ModeSymlink | 0o777, Target: target})
}

func (l *laying) fault(err error) { l.faults = append(l.faults, err) }

func (l *laying) directories(all []Directory) {
	for _, d := range all {
		for _, p := range d.Paths {
			if carries(d.In, l.in.Variant) {
				l.add(assemble.Entry{Path: p, Mode: fs.ModeDir | d.Mode.or(0o755)})
			}
		}
	}
}

// mountPoints creates the mount points of what PID 1 attaches. Those below /dev, /sys and /run are created at run time.
func (l *laying) mountPoints() {
	table, err := attach.Table()
	if err != nil {
		l.fault(err)
		return
	}
	for _, m := range table {
		name := strings.TrimPrefix(m.Target, "/")
		top, _, nested := strings.Cut(name, "/")
		if _, have := l.tree.Lookup(name); !have && !(nested && (top == "dev" || top == "sys" || top == "run" ||
			top == "proc")) {
			l.add(assemble.Entry{Path: name, Mode: fs.ModeDir | 0o755})
		}
	}
}

// bindTargets creates the targets of binds that nothing else has created: the root is read-only, so the device cannot.
func (l *laying) bindTargets() {
	table, err := persist.Table()
	if err != nil {
		l.fault(err)
		return
	}
	for _, b := range table {
		name := strings.TrimPrefix(b.Path, "/")
		if _, have := l.tree.Lookup(name); have {
			continue
		}
		if b.Kind == persist.File {
			l.add(assemble.Entry{Path: name, Mode: b.Mode.Perm()})
		} else {
			l.add(assemble.Entry{Path: name, Mode: fs.ModeDir | b.Mode.Perm()})
		}
	}
}

func (l *laying) programs(all []Program) {
	for _, p := range all {
		if !carries(p.In, l.in.Variant) || slices.Contains(l.in.Without, p.Part) {
			continue
		}
		file, ok := l.binary(p.Name)
		if !ok {
			continue
		}
		l.add(assemble.Entry{Path: p.Path, Mode: 0o755, Source: file})
		for _, name := range p.Links {
			target, err := filepath.Rel(path.Dir(name), p.Path)
			if err != nil {
				l.fault(err)
				continue
			}
			l.link(name, target)
		}
	}
}

// binary returns the path of one of our programs on the host.
func (l *laying) binary(name string) (string, bool) {
	file := filepath.Join(l.in.Programs, name)
	if _, err := os.Stat(file); err != nil {
		l.fault(fmt.Errorf("find program %s: %w; build it with: make build", name, err))
		return "", false
	}
	return file, true
}

func (l *laying) packages(all []Package) {
	for _, p := range all {
		if !carries(p.In, l.in.Variant) {
			continue
		}
		dir, ok := l.in.Packages[p.Name]
		if !ok {
			l.fault(fmt.Errorf("%s: package %s is not in the lock; name it under [userland] of the board, then: "+
				"resin bsp lock %s", p.Path, p.Name, l.in.Board))
			continue
		}
		if err := l.fromPackage(p, dir); err != nil {
			l.fault(fmt.Errorf("%s: %w", p.Path, err))
		}
	}
}

func (l *laying) fromPackage(p Package, dir string) error {
	found, err := filepath.Glob(filepath.Join(dir, p.Source))
	if err != nil || len(found) == 0 {
		return errors.Join(err, fmt.Errorf("package %s has no file %s", p.Name, p.Source))
	}
	if len(found) == 1 {
		text, err := os.ReadFile(found[0])
		if err == nil {
			text, err = unwind.Remove(text)
		}
		l.add(assemble.Entry{Path: p.Path, Mode: p.Mode.or(0o644), Content: text})
		return err
	}
	var all bytes.Buffer
	for _, file := range found { // Glob sorts them
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		all.Write(text)
		if !bytes.HasSuffix(text, []byte("\n")) {
			all.WriteByte('\n')
		}
	}
	l.add(assemble.Entry{Path: p.Path, Mode: p.Mode.or(0o644), Content: all.Bytes()})
	return nil
}

func (l *laying) busybox(b Busybox) {
	if len(b.Applets) == 0 || !carries(b.In, l.in.Variant) {
		return
	}
	e, ok := l.tree.Lookup(path.Join(b.Directory, "busybox"))
	if !ok {
		l.fault(errors.New("busybox: applets are listed, but the program is not in the root"))
		return
	}
	for _, a := range b.Applets {
		if l.in.Known != nil && !l.in.Known(e.Content, a) {
			l.fault(fmt.Errorf("busybox: it has no applet %s; remove it from the table", a))
		}
		l.link(path.Join(b.Directory, a), "busybox")
	}
}

func (l *laying) graft(tree *assemble.Tree) {
	if tree == nil {
		return
	}
	for _, e := range tree.Entries() {
		if _, have := l.tree.Lookup(e.Path); have && e.Mode.IsDir() {
			continue
		}
		l.add(e)
	}
}

// capital writes the name of a variant as people read it.
func capital(name string) string {
	if name == "" {
		return ""
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

// OSRelease returns the text of /etc/os-release.
func OSRelease(in Inputs) []byte {
	var b bytes.Buffer
	for _, kv := range [][2]string{
		{"NAME", "resinOS"}, {"ID", "resinos"}, {"VERSION_ID", in.Version}, {"VERSION", in.Version},
		{"PRETTY_NAME", "resinOS " + in.Version}, {"VARIANT_ID", in.Variant}, {"VARIANT", capital(in.Variant)},
		{"RESIN_BOARD", in.Board},
		// read by other programs: the name of the hardware, and that of the device type
		{"MACHINE", in.Board}, {"SLUG", in.Board},
	} {
		fmt.Fprintf(&b, "%s=%q\n", kv[0], kv[1])
	}
	if !in.Built.IsZero() {
		// The clock of a device starts here at the earliest (net/clock).
		fmt.Fprintf(&b, "RESIN_BUILD_TIME=%q\n", in.Built.UTC().Format(time.RFC3339))
	}
	return b.Bytes()
}
