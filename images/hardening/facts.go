package hardening

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
)

// Facts is what a device says of itself. Numbers of processes are not among them: they change.
type Facts struct {
	Listeners []string            // "PROTOCOL ADDRESS PROGRAM", as Table has them
	Mounts    map[string]string   // flags by target, of what containers do not see alone
	Special   []string            // files with set-user-ID or set-group-ID, outside of the data of containers
	Settings  map[string]string   // of the kernel, by key with dots: those of the table
	Arguments []string            // words of the kernel's command line
	Secrets   map[string]string   // owner and mode of files, by path: those of the table
	Rights    map[string][]string // by right: the programs that have it, or can get it; those in containers are marked
	Modules   []string            // in the kernel that are no file of the root
	Terminals []string            // "TERMINAL PROGRAM" of each process that reads a console
	Shells    []string            // files that a person could get a prompt from
	Writable  []string            // files, sockets, nodes that all users may write, outside of the data of containers
	Abstract  []string            // "@NAME PROGRAM" of sockets without a file, which no mode protects
}

// Observe looks at the device that it runs on, for what the table names. What cannot be read is a fault.
func Observe(t Table) (Facts, error) {
	f := Facts{Mounts: map[string]string{}, Settings: map[string]string{}, Secrets: map[string]string{},
		Rights: map[string][]string{}}
	all, err := processes()
	faults := []error{err, f.sockets(all), f.mounts(), f.settings(t), f.files(t), f.modules()}
	f.rights(t, all)
	f.terminals(all)
	return f, errors.Join(faults...)
}

// Forget leaves out a program that does not belong to the device: its rights, and the terminals that it reads.
func (f *Facts) Forget(program string) {
	for right, names := range f.Rights {
		f.Rights[right] = slices.DeleteFunc(names, func(name string) bool { return name == program })
	}
	f.Terminals = slices.DeleteFunc(f.Terminals, func(line string) bool { return strings.HasSuffix(line, " "+program) })
}

// process is one process of the device.
type process struct {
	name  string
	root  bool              // it is not in a container
	held  []string          // what its descriptors lead to
	lines map[string]string // of its status
	modes []string          // flags of the descriptors
}

func processes() ([]process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var all []process
	for _, dir := range dirs {
		text, err := os.ReadFile(dir + "/status")
		if err != nil {
			continue // it has ended
		}
		p := process{lines: map[string]string{}}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			p.lines[key] = strings.TrimSpace(value)
		}
		p.name = program(dir, p.lines["Name"])
		group, _ := os.ReadFile(dir + "/cgroup") // none: it has ended
		p.root = !strings.Contains(string(group), "/containers/")
		held, _ := os.ReadDir(dir + "/fd") // as above
		for _, fd := range held {
			target, _ := os.Readlink(dir + "/fd/" + fd.Name())
			info, _ := os.ReadFile(dir + "/fdinfo/" + fd.Name())
			p.held, p.modes = append(p.held, target), append(p.modes, modeOf(string(info)))
		}
		all = append(all, p)
	}
	return all, nil
}

// program is the name that a process was called by; the kernel's own name is that of a thread, cut to 15 bytes.
func program(dir, short string) string {
	text, err := os.ReadFile(dir + "/cmdline")
	name, _, _ := strings.Cut(string(text), "\x00")
	if err != nil || name == "" {
		return short
	}
	return filepath.Base(name)
}

func modeOf(info string) string {
	for line := range strings.Lines(info) {
		if value, is := strings.CutPrefix(line, "flags:"); is {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// sockets fills in what waits for others: TCP that listens, and UDP, raw and packet sockets without a peer.
func (f *Facts) sockets(all []process) error {
	owners := map[string]string{}
	for _, p := range all {
		for _, target := range p.held {
			inode := strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")
			if owners[inode] == "" || owners[inode] == "init" { // PID 1 keeps sockets for others
				owners[inode] = p.name
			}
		}
	}
	var faults []error
	for _, protocol := range []string{"tcp", "tcp6", "udp", "udp6", "raw", "raw6"} {
		text, err := os.ReadFile("/proc/net/" + protocol)
		if errors.Is(err, fs.ErrNotExist) {
			continue // IPv6 is off
		}
		faults = append(faults, err)
		for _, s := range parseSockets(protocol, string(text)) {
			f.add(s.where, owners[s.inode])
		}
	}
	text, err := os.ReadFile("/proc/net/packet")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		faults = append(faults, err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if w := strings.Fields(line); i > 0 && len(w) > 8 {
			f.add("packet "+w[3], owners[w[8]])
		}
	}
	slices.Sort(f.Listeners)
	f.Listeners = slices.Compact(f.Listeners)
	local, err := os.ReadFile("/proc/net/unix")
	for _, s := range parseAbstract(string(local)) {
		f.Abstract = append(f.Abstract, s.where+" "+owners[s.inode])
	}
	return errors.Join(append(faults, err)...)
}

func (f *Facts) add(where, owner string) {
	if owner == "" {
		owner = "kernel"
	}
	f.Listeners = append(f.Listeners, where+" "+owner)
}

type socket struct{ where, inode string }

// parseSockets reads /proc/net/tcp and its like (proc_pid_net(5)).
func parseSockets(protocol, text string) (all []socket) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range lines[min(1, len(lines)):] {
		w := strings.Fields(line)
		if len(w) < 10 {
			continue
		}
		local, remote, state := address(w[1]), address(w[2]), w[3]
		const listens, unconnected = "0A", "07"
		if strings.HasPrefix(protocol, "tcp") && state != listens ||
			strings.HasPrefix(protocol, "udp") && (state != unconnected || remote.Port() != 0) {
			continue
		}
		where := local.Addr().String()
		if local.Addr().IsUnspecified() {
			where = "*"
		}
		all = append(all, socket{fmt.Sprintf("%s %s:%d", strings.TrimSuffix(protocol, "6"), where, local.Port()), w[9]})
	}
	return all
}

// parseAbstract reads the sockets of unix(7) that have a name and no file.
func parseAbstract(text string) (all []socket) {
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) == 8 && strings.HasPrefix(w[7], "@") {
			all = append(all, socket{w[7], w[6]})
		}
	}
	return all
}

// address reads an address as the kernel prints it: words of four bytes in the order of the processor, and the port.
func address(text string) netip.AddrPort {
	host, port, _ := strings.Cut(text, ":")
	number, _ := strconv.ParseUint(port, 16, 16) // 0 if it is none
	var bytes []byte
	for ; len(host) >= 8; host = host[8:] {
		word, _ := strconv.ParseUint(host[:8], 16, 32) // as above
		bytes = binary.NativeEndian.AppendUint32(bytes, uint32(word))
	}
	addr, _ := netip.AddrFromSlice(bytes)
	return netip.AddrPortFrom(addr.Unmap(), uint16(number))
}

func (f *Facts) mounts() error {
	all, err := attach.ReadMounts()
	for _, m := range all {
		f.Mounts[m.Target] = m.Flags
	}
	return err
}

func (f *Facts) settings(t Table) error {
	text, err := os.ReadFile("/proc/cmdline")
	f.Arguments = strings.Fields(string(text))
	faults := []error{err}
	for _, s := range t.Settings {
		paths, err := filepath.Glob("/proc/sys/" + strings.ReplaceAll(s.Key, ".", "/"))
		faults = append(faults, err)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			faults = append(faults, err)
			key := strings.ReplaceAll(strings.TrimPrefix(path, "/proc/sys/"), "/", ".")
			f.Settings[key] = strings.TrimSpace(string(text))
		}
	}
	return errors.Join(faults...)
}

// files looks at all files of the device but those of containers and of the kernel.
func (f *Facts) files(t Table) error {
	skipped := []string{"/proc", "/sys", "/mnt/data/containerd", "/mnt/data/volumes", "/mnt/sysroot"}
	faults := []error{filepath.WalkDir("/", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // it has been removed meanwhile
		case e.IsDir() && (slices.Contains(skipped, path) || strings.HasSuffix(path, ".v2.task")):
			return fs.SkipDir
		}
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
			f.Special = append(f.Special, path)
		}
		const others = 0o002
		if err == nil && info.Mode()&others != 0 && e.Type() != fs.ModeSymlink {
			f.Writable = append(f.Writable, path)
		}
		return nil
	})}
	for _, s := range t.Secrets {
		paths, err := filepath.Glob(s.Path)
		faults = append(faults, err)
		for _, path := range paths {
			var info unix.Stat_t
			if err := unix.Stat(path, &info); err == nil { // else it has been removed meanwhile
				f.Secrets[path] = fmt.Sprintf("%d:%d %04o", info.Uid, info.Gid, info.Mode&0o7777)
			}
		}
	}
	for _, path := range t.Shells {
		if _, err := os.Stat(path); err == nil {
			f.Shells = append(f.Shells, path)
		}
	}
	return errors.Join(faults...)
}

// filteredMark follows the name of a program that has a filter of system calls.
const filteredMark = " (filtered)"

// rights finds who has the rights that the table gives to few.
func (f *Facts) rights(t Table, all []process) {
	for _, r := range t.Rights {
		var have []string
		for _, p := range all {
			// Without no_new_privs, root gets the bounding set with each program that it starts.
			key := "CapBnd"
			if p.lines["NoNewPrivs"] == "1" || !strings.HasPrefix(p.lines["Uid"], "0\t") {
				key = "CapPrm"
			}
			set, err := strconv.ParseUint(p.lines[key], 16, 64)
			if p.lines["VmSize"] == "" || err != nil || set&(1<<r.Number) == 0 { // a thread of the kernel has no memory
				continue
			}
			name := p.name
			if p.lines["Seccomp"] == "2" {
				name += filteredMark
			}
			if !p.root {
				name = "a container: " + name
			}
			have = append(have, name)
		}
		slices.Sort(have)
		f.Rights[r.Name] = slices.Compact(have)
	}
}

// modules compares those in the kernel with the files of the root.
func (f *Facts) modules() error {
	have := map[string]bool{}
	err := filepath.WalkDir("/usr/lib/modules", func(path string, _ fs.DirEntry, err error) error {
		name, is := strings.CutSuffix(strings.TrimSuffix(filepath.Base(path), ".xz"), ".ko")
		have[strings.ReplaceAll(name, "-", "_")] = is
		return err
	})
	text, missing := os.ReadFile("/proc/modules")
	for line := range strings.Lines(string(text)) {
		if name, _, _ := strings.Cut(line, " "); !have[name] {
			f.Modules = append(f.Modules, name)
		}
	}
	return errors.Join(err, missing)
}

// terminals finds who could read what a person types at the device: not on a pseudo terminal, which ssh has.
func (f *Facts) terminals(all []process) {
	const writeOnly = 1
	for _, p := range all {
		for i, target := range p.held {
			name, is := strings.CutPrefix(target, "/dev/")
			if !is || name == "tty" || !strings.HasPrefix(name, "tty") && name != "console" {
				continue
			}
			if mode, err := strconv.ParseUint(p.modes[i], 8, 32); err == nil && mode&unix.O_ACCMODE == writeOnly {
				continue
			}
			f.Terminals = append(f.Terminals, name+" "+p.name)
		}
	}
	slices.Sort(f.Terminals)
	f.Terminals = slices.Compact(f.Terminals)
}
