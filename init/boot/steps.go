package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/bsp/watchdog"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/persist"
	"resinos/net/clock"
	"resinos/services/bootreport"
	"resinos/services/config"
	"resinos/services/linelog"
	"resinos/services/logpipe"
	"resinos/services/spec"
)

// Where things lie on the real root.
const (
	slotTarget   = "/mnt/sysroot"
	runtimeDir   = "/run/resinos"
	cgroupRoot   = "/sys/fs/cgroup"
	shippedDir   = "/usr/lib/resinos/services"
	ownersDir    = "/etc/resinos/services"
	machineID    = "/etc/machine-id"
	hostnameFile = "/etc/hostname"
)

// Loader loads a kernel module and all it needs.
type Loader interface {
	Load(name, params string) error
}

// step is one row of the boot: the plan and the deed stand side by side so that they cannot drift apart.
type step struct {
	name     string
	severity bootreport.Severity
	plan     func(Inputs) []string
	do       func(*system) error
}

// steps is the boot of the real root. What the container engine needs comes first; nothing here waits for network or time.
func steps() []step {
	return []step{
		{"attach pseudo", bootreport.Degraded, planPseudo, (*system).attachPseudo},
		{"clock", bootreport.Degraded, planText("set the clock to the latest of build time and hardware clock"), (*system).startClock},
		{"share mounts", bootreport.Degraded, planText("let mounts reach the services that have a mount namespace"), (*system).shareMounts},
		{"open log", bootreport.Degraded, planText("write into " + logpipe.Dir), (*system).openLog},
		{"cgroups", bootreport.Degraded, planText("enable all controllers for the services", "move PID 1 to "+cgroupRoot+"/init"), (*system).cgroups},
		{"share with containers", bootreport.Degraded, planShares, (*system).shareWithContainers},
		{"find disk", bootreport.Degraded, planLocate, (*system).findDisk},
		{"attach state", bootreport.Degraded, planPlace(disk.State), attachPlace(disk.State)},
		{"purge state", bootreport.Degraded, planPurge(disk.State), purgePlace(disk.State)},
		{"saved clock", bootreport.Ignorable, planText("set the clock to the time of " + clock.SavedPath + " if that is later"), (*system).resumeClock},
		{"mark boot", bootreport.Ignorable, planText("read "+markerFile, "note there that this boot runs, beside the next steps"), (*system).markBoot},
		{"bind persistent paths", bootreport.Degraded, planBinds, (*system).bindPersistent},
		{"attach data", bootreport.Degraded, planPlace(disk.Data), attachPlace(disk.Data)},
		{"purge data", bootreport.Degraded, planPurge(disk.Data), purgePlace(disk.Data)},
		{"limit containers", bootreport.Degraded, planLimit, (*system).limitContainers},
		{"loopback", bootreport.Degraded, planText("set link lo up"), (*system).loopback},
		{"sysctls", bootreport.Ignorable, planSysctls, (*system).sysctls},
		{"load modules", bootreport.Degraded, planText("load " + strings.Join(earlyModules, " ")), (*system).loadModules},
		{"watchdog", bootreport.Ignorable, planText(fmt.Sprintf("start %s with %v, %v once services run", watchdog.Path, bootTimeout, dogTimeout)), (*system).openDog},
		{"last boot", bootreport.Ignorable, planText("read and remove "+pstoreDir, "tell how the boot before this one ended"), (*system).lastBoot},
		{"attach boot", bootreport.Degraded, planPlace(disk.Boot), attachPlace(disk.Boot)},
		{"read config.json", bootreport.Degraded, planText("read " + config.Path + ", else its last good copy; defaults for what is missing or wrong"), (*system).readConfig},
		{"identity", bootreport.Degraded, planIdentity, (*system).identity},
		{"hostname", bootreport.Ignorable, planHostname, (*system).hostname},
		{"load services", bootreport.Degraded, planServices, (*system).loadServices},
	}
}

// system is what the steps learn about the device on their way.
type system struct {
	Inputs
	log     *slog.Logger
	out     *linelog.Handler
	record  *bootreport.Record
	verbose bool // the console shows PID 1's log
	modules func() (Loader, error)
	specs   []spec.Spec
	loaded  config.Loaded // what Config was made of
	pipe    *os.File      // PID 1's log pipe
	dog     *watchdog.Dog // nil: the board has none
	traces  Traces        // of the last boot
	marking marking       // the marker of this one

	repaired []string // labels of the file systems that needed it
}

func (s *system) actions() []Action {
	table := steps()
	actions := make([]Action, len(table))
	for i, row := range table {
		actions[i] = Action{Name: row.name, Severity: row.severity, Do: func() error { return row.do(s) }}
	}
	return actions
}

func (s *system) attachPseudo() error {
	table, err := attach.Table()
	if err != nil {
		return err
	}
	s.Pseudo = table
	have, err := attach.ReadMounts()
	if err != nil {
		have = nil // without /proc everything is missing, /proc first
	}
	var faults []error
	for _, e := range attach.Plan(table, have) {
		faults = append(faults, attach.Apply(e))
	}
	return errors.Join(faults...)
}

// shareMounts lets what is attached later appear in the mount namespaces of services. The kernel's default is that it does not.
func (s *system) shareMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts: %w", err)
	}
	return nil
}

// openLog moves PID 1's lines from the kernel log to the pipe that logd reads. The pipe keeps them until logd runs, and stays
// open as long as PID 1 lives.
func (s *system) openLog() error {
	if err := os.MkdirAll(logpipe.Dir, 0o755); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	pipe, err := logpipe.OpenNonblock(logpipe.Dir, logpipe.Source{Kind: logpipe.Service, Name: "init", Stream: logpipe.Log})
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	s.resumeLog(pipe)
	return nil
}

func (s *system) resumeLog(pipe *os.File) {
	s.pipe = pipe
	s.out.Redirect(logpipe.NewWriter(pipe), console(s.verbose))
}

// cgroups gives the services' tree every controller that the kernel has, and moves PID 1 out of the root group, where limits
// and protections do not count.
func (s *system) cgroups() error {
	var kind unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &kind); err != nil || kind.Type != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("enable controllers: %s is not a cgroup v2 file system", cgroupRoot)
	}
	own := filepath.Join(cgroupRoot, "init")
	services := filepath.Join(cgroupRoot, "resinos")
	for _, dir := range []string{own, services} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	faults := []error{put(filepath.Join(own, "cgroup.procs"), "0")}
	for _, dir := range []string{cgroupRoot, services} {
		faults = append(faults, enableControllers(dir))
	}
	// 16 MiB that no container can push out of memory.
	if err := put(filepath.Join(own, "memory.min"), "16777216"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

func enableControllers(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("enable controllers: %w", err)
	}
	var faults []error
	for name := range strings.FieldsSeq(string(text)) {
		faults = append(faults, put(filepath.Join(dir, "cgroup.subtree_control"), "+"+name))
	}
	return errors.Join(faults...)
}

// put writes a value into a file of the kernel. It never creates one.
func put(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// findDisk learns which disk the device runs from: the one whose partition is attached as the slot. All other partitions
// are taken from that disk, whatever labels other disks carry.
func (s *system) findDisk() error {
	cmdline, err := ReadCmdline()
	s.Cmdline = cmdline
	if err != nil {
		s.log.Warn("command line is damaged", "error", err) // the slot is attached already, its name is for people
	}
	have, err := attach.ReadMounts()
	if err != nil {
		return err
	}
	slot, found := attach.At(have, slotTarget)
	if !found {
		return fmt.Errorf("find disk: nothing is attached at %s", slotTarget)
	}
	if s.Partitions, err = disk.Read("/sys"); err != nil {
		return err
	}
	part, found := disk.ByDevice(s.Partitions, slot.Major, slot.Minor)
	if !found {
		return fmt.Errorf("find disk: no partition is device %d:%d", slot.Major, slot.Minor)
	}
	s.Disk = part.Disk
	s.record.Locate(cmdline.Slot, part.Disk)
	return nil
}

func (s *system) bindPersistent() error {
	binds, err := persist.Table()
	if err != nil {
		return err
	}
	s.Binds = binds
	root, err := persist.Open(places(disk.State).entry.Target, "/")
	if err != nil {
		return err
	}
	defer root.Close()
	var faults []error
	for _, b := range binds {
		faults = append(faults, root.Apply(b))
	}
	return errors.Join(faults...)
}

// loopback sets the link lo up, which gives it its addresses. Engine and DNS listen there.
func (s *system) loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

func (s *system) sysctls() error {
	table, err := Sysctls()
	if err != nil {
		return err
	}
	s.Sysctls = table
	var faults []error
	for _, one := range table {
		faults = append(faults, applySysctl("/proc/sys", one))
	}
	return errors.Join(faults...)
}

// earlyModules are needed on every board, so PID 1 loads them itself: FAT and its character sets for the boot partition, and
// what the engine mounts. The kernel would ask modprobe for them, which takes a process each and far longer.
var earlyModules = []string{"vfat", "nls_cp437", "nls_ascii", "overlay"}

func (s *system) loadModules() error {
	loader, err := s.modules()
	if err != nil {
		return err
	}
	var faults []error
	for _, name := range earlyModules {
		faults = append(faults, loader.Load(name, ""))
	}
	return errors.Join(faults...)
}

// markBoot reads what the boot before this one said of its end, and marks this one as running. It comes as soon as the partition
// is there: the disk has then the time of all further steps to write it.
func (s *system) markBoot() error {
	s.traces.Marker, s.traces.Fault = readMarker(markerFile)
	s.marking.begin(markerFile, s.log)
	return nil
}

// lastBoot says how the boot before this one ended.
func (s *system) lastBoot() (err error) {
	s.traces.Panic, err = s.pstore()
	last := Classify(s.traces)
	s.record.Remember(last)
	reason, _, _ := strings.Cut(last.Why, "\n") // the rest of a panic is for osctl boot --last
	s.log.Log(context.Background(), levels[last.How], "last boot ended", "status", last.How, "reason", reason)
	return err
}

// levels of the ways in which a boot ends: a person should know of all but one.
var levels = map[string]slog.Level{EndPanic: slog.LevelError, EndWatchdog: slog.LevelError, EndPower: slog.LevelWarn}

// pstore attaches the persistent store, where the board has one, and takes the last panic out of it.
func (s *system) pstore() (string, error) {
	if _, err := os.Stat("/sys/firmware/efi"); err == nil {
		if loader, err := s.modules(); err == nil {
			_ = loader.Load("efi_pstore", "") // a firmware without variables has none
		}
	}
	if _, err := os.Stat(pstoreDir); err != nil {
		return "", nil // this kernel has none
	}
	if err := attach.Ensure(attach.Entry{Name: "pstore", Target: pstoreDir, Type: "pstore", Flags: []string{"nosuid", "nodev", "noexec"}}); err != nil {
		return "", err
	}
	return takePanic(pstoreDir)
}

// loadServices reads the shipped definitions and what the owner's say about them.
func (s *system) loadServices() error {
	specs, faults := readServices()
	s.specs = specs
	s.Services = nil
	for _, one := range specs {
		s.Services = append(s.Services, one.Name)
	}
	return errors.Join(faults...)
}

// readServices reads the service files of the image and, laid over them, the owner's.
func readServices() ([]spec.Spec, []error) {
	return spec.Load(
		spec.Layer{FS: os.DirFS(shippedDir), Dir: ".", Path: shippedDir},
		spec.Layer{FS: os.DirFS(ownersDir), Dir: ".", Path: ownersDir},
	)
}
