// Package ocispec turns an app's settings of rights, limits, devices and memory file systems into options of an OCI
// specification. It knows no volume. Read Options first.
package ocispec

import (
	"context"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"resinos/containers/app"
)

// HoldTarget is where the first process of a container with Hold lies: in memory, so that no root is written to.
const HoldTarget = "/dev/hold"

// InitTarget is where the first process of a container with Init lies, as with docker: in /dev, which may be the
// device's own, a file of ours would stay.
const InitTarget = "/sbin/docker-init"

// WithInit puts program before the container's own, if it asks for that: it reaps what has lost its parent and passes
// signals on. Only the first process of a namespace can do that.
func WithInit(c app.Container, program string) oci.SpecOpts {
	return set(func(s *specs.Spec) {
		if !c.Init || c.PID != "" || c.Joined(string(specs.PIDNamespace)) != "" {
			return
		}
		s.Process.Args = append([]string{InitTarget, "--"}, s.Process.Args...)
		s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: program, Destination: InitTarget,
			Options: []string{"bind", "ro", "nosuid", "nodev"}})
	})
}

// The limits of a container that its app says nothing of.
const (
	pids = 512
	// oomScore lets the kernel end containers before all else when memory runs out: what lets people in, and what they
	// start there, has less.
	oomScore = 500
)

// capabilities are those of a container: docker's, without NET_RAW, MKNOD, AUDIT_WRITE and SETFCAP.
var capabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
	"CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
}

// Options are what the container asks for. They come after all others: seccomp's profile depends on the capabilities.
func Options(c app.Container) []oci.SpecOpts {
	opts := []oci.SpecOpts{
		oci.WithCapabilities(Capabilities(c.CapAdd, c.CapDrop)),
		set(func(s *specs.Spec) {
			s.Process.NoNewPrivileges = !slices.Contains(c.Security, "no-new-privileges=false")
		}),
		set(func(s *specs.Spec) { limit(s, c) }),
		set(func(s *specs.Spec) { memory(s, c) }),
	}
	if c.ReadOnly {
		opts = append(opts, oci.WithRootFSReadonly())
	}
	for _, d := range c.Devices {
		opts = append(opts, oci.WithDevices(d.Source, d.Target, d.Permissions))
	}
	for _, rule := range c.DeviceRules {
		opts = append(opts, deviceRule(rule))
	}
	if c.Hold != "" {
		opts = append(opts, set(func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Type: "bind", Source: c.Hold, Destination: HoldTarget,
				Options: []string{"bind", "ro", "nosuid", "nodev"}})
		}))
	}
	opts = append(opts, shared(c)...)
	switch {
	case c.Privileged:
		return append(opts, privileged()...)
	case slices.Contains(c.Security, "systempaths=unconfined"):
		opts = append(opts, oci.WithMaskedPaths(nil), oci.WithReadonlyPaths(nil))
	}
	if slices.Contains(c.Security, "seccomp=unconfined") {
		return opts
	}
	return append(opts, seccomp.WithDefaultProfile(), set(withoutX32)) // reads the capabilities
}

// withoutX32 leaves the calls of x32 out of seccomp's program, which then kills who makes one: no kernel of a board
// offers them (Debian's do with syscall.x32=y only). They are a third of the program, and the time in which the kernel
// takes it grows with the square of its length.
func withoutX32(s *specs.Spec) {
	all := &s.Linux.Seccomp.Architectures
	if i := slices.Index(*all, specs.ArchX32); i >= 0 {
		*all = slices.Delete(*all, i, i+1)
	}
}

// set is an option that needs nothing but the specification.
func set(change func(*specs.Spec)) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
		change(s)
		return nil
	}
}

// Capabilities are the container's own with what cap_add and cap_drop of its service change, as docker joins them.
func Capabilities(add, drop []string) []string {
	var added []string
	for _, name := range add {
		added = append(added, "CAP_"+name)
	}
	dropped := func(name string) bool { return slices.Contains(drop, strings.TrimPrefix(name, "CAP_")) }
	switch {
	case slices.Contains(add, "ALL"):
		return slices.DeleteFunc(all(), dropped)
	case slices.Contains(drop, "ALL"):
		return added
	}
	return append(slices.DeleteFunc(slices.Clone(capabilities), func(name string) bool {
		return dropped(name) || slices.Contains(added, name)
	}), added...)
}

// all are the capabilities that the device has to give: the OCI runtime refuses others, which a kernel may know and a
// machine that is a container itself may lack.
func all() []string {
	have, err := cap.Current()
	if err != nil {
		return cap.Known()
	}
	return have
}

// privileged gives up all that keeps a container apart but its namespaces.
func privileged() []oci.SpecOpts {
	return []oci.SpecOpts{
		oci.WithCapabilities(all()), set(func(s *specs.Spec) { s.Process.NoNewPrivileges = false }),
		oci.WithMaskedPaths(nil), oci.WithReadonlyPaths(nil), oci.WithWriteableSysfs, oci.WithWriteableCgroupfs,
		oci.WithHostDevices, oci.WithAllDevicesAllowed, oci.WithSeccompUnconfined,
	}
}

// shared are the namespaces of the device that the container uses, and the names of one of its own.
func shared(c app.Container) []oci.SpecOpts {
	var opts []oci.SpecOpts
	if c.PID == "host" {
		opts = append(opts, oci.WithHostNamespace(specs.PIDNamespace))
	}
	if c.IPC == "host" {
		opts = append(opts, oci.WithHostNamespace(specs.IPCNamespace))
	}
	if c.UTS == "host" {
		return append(opts, oci.WithHostNamespace(specs.UTSNamespace), oci.WithHostname(""))
	}
	if c.Hostname != "" {
		opts = append(opts, oci.WithHostname(c.Hostname))
	}
	if c.Domainname != "" {
		opts = append(opts, oci.WithDomainname(c.Domainname))
	}
	return opts
}

// limit is what the container may use.
func limit(s *specs.Spec, c app.Container) {
	r := c.Resources
	into := s.Linux.Resources
	if into == nil {
		into = new(specs.LinuxResources)
		s.Linux.Resources = into
	}
	count := int64(pids)
	if r.Pids != 0 {
		count = r.Pids
	}
	if into.Pids = nil; count > 0 { // without a word of it there is no limit
		into.Pids = &specs.LinuxPids{Limit: &count}
	}
	score := oomScore
	if c.OOMScoreAdj != 0 {
		score = c.OOMScoreAdj
	}
	s.Process.OOMScoreAdj = &score
	into.Memory, into.CPU, into.BlockIO = memoryLimit(r), cpuLimit(r), nil
	if r.BlkioWeight > 0 {
		into.BlockIO = &specs.LinuxBlockIO{Weight: &r.BlkioWeight}
	}
	for _, u := range c.Ulimits {
		s.Process.Rlimits = append(slices.DeleteFunc(s.Process.Rlimits, func(l specs.POSIXRlimit) bool {
			return l.Type == "RLIMIT_"+strings.ToUpper(u.Name)
		}), specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: bound(u.Soft), Hard: bound(u.Hard)})
	}
	for _, pair := range c.Sysctls {
		key, value, _ := strings.Cut(pair, "=")
		if s.Linux.Sysctl == nil {
			s.Linux.Sysctl = map[string]string{}
		}
		s.Linux.Sysctl[key] = value
	}
}

func bound(limit int64) uint64 {
	if limit < 0 {
		return math.MaxUint64 // RLIM_INFINITY
	}
	return uint64(limit)
}

func memoryLimit(r app.Resources) *specs.LinuxMemory {
	if r.Memory == 0 && r.MemoryReservation == 0 && r.MemorySwap == 0 {
		return nil
	}
	m := new(specs.LinuxMemory)
	if r.Memory > 0 {
		m.Limit = &r.Memory
		swap := 2 * r.Memory // memory and swap together, as docker has it
		if r.MemorySwap != 0 {
			swap = r.MemorySwap
		}
		m.Swap = &swap
	}
	if r.MemoryReservation > 0 {
		m.Reservation = &r.MemoryReservation
	}
	return m
}

func cpuLimit(r app.Resources) *specs.LinuxCPU {
	c := specs.LinuxCPU{Cpus: r.CPUSet}
	period, quota := uint64(100_000), r.CPUQuota
	if r.CPUPeriod > 0 {
		period = uint64(r.CPUPeriod)
	}
	if r.CPUs > 0 {
		quota = int64(r.CPUs * float64(period))
	}
	if quota > 0 {
		c.Quota, c.Period = &quota, &period
	}
	if r.CPUShares > 0 {
		shares := uint64(r.CPUShares)
		c.Shares = &shares
	}
	if c == (specs.LinuxCPU{}) {
		return nil
	}
	return &c
}

// lockDirs are where a container finds the directory of its update locks (init/updater), as under balena's supervisor.
// Each start has new ones: a lock ends with the container that made it.
var lockDirs = []string{"/tmp/balena", "/tmp/resin"}

// memory are the file systems in memory: /dev/shm, those of tmpfs, and the directories of update locks.
func memory(s *specs.Spec, c app.Container) {
	if c.Resources.ShmSize > 0 {
		for i, m := range s.Mounts {
			if m.Destination == "/dev/shm" {
				s.Mounts[i].Options = append(slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool {
					return strings.HasPrefix(o, "size=")
				}), "size="+strconv.FormatInt(c.Resources.ShmSize, 10))
			}
		}
	}
	for _, m := range c.Mounts {
		if m.Type == app.Tmpfs {
			s.Mounts = append(s.Mounts, tmpfs(m))
		}
	}
	for _, dir := range lockDirs {
		if !taken(s.Mounts, dir) {
			s.Mounts = append(s.Mounts,
				tmpfs(app.Mount{Target: dir, Size: 64 << 10, Mode: 0o1777, Options: "nr_inodes=16"}))
		}
	}
}

// taken reports whether there is a mount at a directory, or one above it in which it cannot be made.
func taken(mounts []specs.Mount, dir string) bool {
	return slices.ContainsFunc(mounts, func(m specs.Mount) bool {
		target := path.Clean(m.Destination)
		return target == dir || strings.HasPrefix(dir, target+"/") && slices.Contains(m.Options, "ro")
	})
}

func tmpfs(m app.Mount) specs.Mount {
	options := []string{"nosuid", "nodev", "noexec"}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	if m.Size > 0 {
		options = append(options, "size="+strconv.FormatInt(m.Size, 10))
	}
	if m.Mode != 0 {
		options = append(options, "mode="+strconv.FormatUint(uint64(m.Mode), 8))
	}
	for option := range strings.SplitSeq(m.Options, ",") {
		if option != "" {
			options = append(options, option) // the later one counts
		}
	}
	return specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: m.Target, Options: options}
}

// deviceRule is a rule as the device cgroup of version 1 wrote it: TYPE MAJOR:MINOR RIGHTS.
func deviceRule(rule string) oci.SpecOpts {
	return func(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
		words := strings.Fields(rule)
		if len(words) != 3 || !strings.Contains("abc", words[0]) || strings.Trim(words[2], "rwm") != "" {
			return fmt.Errorf("device_cgroup_rules: %q is no rule: write c MAJOR:MINOR rwm", rule)
		}
		major, minor, _ := strings.Cut(words[1], ":")
		one := specs.LinuxDeviceCgroup{Allow: true, Type: words[0], Access: words[2]}
		for _, part := range []struct {
			text string
			into **int64
		}{{major, &one.Major}, {minor, &one.Minor}} {
			if part.text == "*" {
				continue
			}
			n, err := strconv.ParseInt(part.text, 10, 32)
			if err != nil || n < 0 {
				return fmt.Errorf("device_cgroup_rules: %q is no rule: write c MAJOR:MINOR rwm", rule)
			}
			*part.into = &n
		}
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, one)
		return nil
	}
}
