package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/bsp/watchdog"
	"resinos/init/cmdline"
	"resinos/init/console"
	"resinos/init/lastboot"
	"resinos/init/partition"
	"resinos/init/walk"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/persist"
	"resinos/mounts/plainfile"
	"resinos/net/clockstatus"
	"resinos/net/savedtime"
	"resinos/services/bootreport"
	"resinos/services/config"
	"resinos/services/log/line"
	"resinos/services/log/pipe"
	"resinos/services/spec"
	"resinos/services/sysctl"
)

// Where things lie on the real root.
const (
	runtimeDir    = "/run/resinos"
	cgroupRoot    = "/sys/fs/cgroup"
	ownGroup      = cgroupRoot + "/init"
	servicesGroup = cgroupRoot + "/resinos"
	shippedDir    = "/usr/lib/resinos/services"
	ownersDir     = "/etc/resinos/services"
	machineID     = "/etc/machine-id"
	hostnameFile  = "/etc/hostname"
)

// ownMemory of PID 1 no container can push out of memory.
const ownMemory = 16 * disk.MiB

// deed is something that a step does: what a plan prints of it, and how it is carried out. Both are made from the same values.
type deed struct {
	does []string
	do   func(*system) error // nil: it says only what the look found
}

// step is one row of the boot. It looks at what there is, and then carries out the deeds that follow from that; osctl plan prints the
// same deeds.
type step struct {
	name     string
	severity bootreport.Severity
	look     func(*system) error // fills in Inputs; nil: there is nothing to look at
	deeds    func(Inputs) []deed // pure
}

// steps is the boot of the real root. What the container engine needs comes first; nothing here waits for network or time.
func steps() []step {
	return []step{
		{"attach pseudo", bootreport.Degraded, (*system).lookAtPseudo, pseudoDeeds},
		{"clock", bootreport.Degraded, nil, one((*system).startClock, "set the clock to the latest of build time and hardware clock", "note in "+clockstatus.Path+" where it began")},
		{"share mounts", bootreport.Degraded, nil, one((*system).shareMounts, "let mounts reach the services that have a mount namespace")},
		{"open log", bootreport.Degraded, nil, one((*system).openLog, "write into "+pipe.Dir)},
		{"cgroups", bootreport.Degraded, nil, one((*system).cgroups,
			"create "+ownGroup+" and "+servicesGroup, "move PID 1 to "+ownGroup, "enable all controllers for the services", "keep "+ownMemory.String()+" of memory for PID 1")},
		{"share with containers", bootreport.Degraded, (*system).lookAtShares, shareDeeds},
		{"find disk", bootreport.Degraded, (*system).findDisk, diskDeeds},
		{"attach state", bootreport.Degraded, nil, attachDeeds(disk.State)},
		{"purge state", bootreport.Degraded, nil, purgeDeeds(disk.State)},
		{"saved clock", bootreport.Ignorable, nil, one((*system).resumeClock, "set the clock to the time of "+savedtime.Path+" if that is later")},
		{"mark boot", bootreport.Ignorable, nil, one((*system).markBoot, "read "+lastboot.MarkerFile, "note there that this boot runs, beside the next steps")},
		{"bind persistent paths", bootreport.Degraded, (*system).lookAtBinds, bindDeeds},
		{"attach data", bootreport.Degraded, nil, attachDeeds(disk.Data)},
		{"purge data", bootreport.Degraded, nil, purgeDeeds(disk.Data)},
		{"limit containers", bootreport.Degraded, nil, limitDeeds},
		{"loopback", bootreport.Degraded, nil, one((*system).loopback, "set link lo up")},
		{"sysctls", bootreport.Ignorable, (*system).lookAtSysctls, sysctlDeeds},
		{"load modules", bootreport.Degraded, nil, one((*system).loadModules, "load "+strings.Join(earlyModules, " "))},
		{"watchdog", bootreport.Ignorable, nil, one((*system).openWatchdog, fmt.Sprintf("start %s with %v, %v once services run", watchdog.Path, bootTimeout, serviceTimeout))},
		{"last boot", bootreport.Ignorable, nil, lastBootDeeds},
		{"attach boot", bootreport.Degraded, nil, attachDeeds(disk.Boot)},
		{"read config.json", bootreport.Degraded, nil, one((*system).readConfig, "read "+config.Path+", else its last good copy; defaults for what is missing or wrong")},
		{"identity", bootreport.Degraded, nil, identityDeeds},
		{"hostname", bootreport.Ignorable, nil, hostnameDeeds},
		{"load services", bootreport.Degraded, (*system).loadServices, serviceDeeds},
	}
}

// one makes a step of a single deed, whatever the inputs.
func one(do func(*system) error, does ...string) func(Inputs) []deed {
	return func(Inputs) []deed { return []deed{{does, do}} }
}

// carryOut looks, and does what follows. A fault of one deed, or of the look, keeps none of the others from being done.
func (row step) carryOut(s *system) error {
	var faults []error
	if row.look != nil {
		faults = append(faults, row.look(s))
	}
	for _, d := range row.deeds(s.Inputs) {
		if d.do != nil {
			faults = append(faults, d.do(s))
		}
	}
	return errors.Join(faults...)
}

// system is what the steps learn about the device on their way.
type system struct {
	Inputs
	log      *slog.Logger
	out      *line.Handler
	record   *bootreport.Record
	verbose  bool // the console shows PID 1's log
	modules  func() (partition.Loader, error)
	specs    []spec.Spec
	mounted  []attach.Mount   // what was attached when the boot began
	loaded   config.Loaded    // what Config was made of
	named    error            // why the device did not take its name
	pipe     *os.File         // PID 1's log pipe
	watchdog *watchdog.Dog    // nil: the board has none
	traces   lastboot.Traces  // of the last boot
	marking  lastboot.Marking // the marker of this one

	attacher partition.Attacher
}

func (s *system) actions() []walk.Action {
	table := steps()
	actions := make([]walk.Action, len(table))
	for i, row := range table {
		actions[i] = walk.Action{Name: row.name, Severity: row.severity, Do: func() error { return row.carryOut(s) }}
	}
	return actions
}

func (s *system) lookAtPseudo() (err error) {
	if s.mounted, err = attach.ReadMounts(); err != nil {
		s.mounted = nil // without /proc everything is missing, /proc first
	}
	s.Pseudo, err = attach.Table()
	return err
}

func pseudoDeeds(in Inputs) []deed {
	var all []deed
	for _, e := range in.Pseudo {
		all = append(all, deed{[]string{e.String()}, func(s *system) error {
			if _, there := attach.At(s.mounted, e.Target); there {
				return nil
			}
			return attach.Apply(e)
		}})
	}
	return all
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
	if err := os.MkdirAll(pipe.Dir, 0o755); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	f, err := pipe.OpenNonblock(pipe.Dir, pipe.Source{Kind: pipe.Service, Name: "init", Stream: pipe.Log})
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	s.resumeLog(f)
	return nil
}

func (s *system) resumeLog(f *os.File) {
	s.pipe = f
	s.out.Redirect(pipe.NewWriter(f), console.Console(s.verbose))
}

// cgroups gives the services' tree every controller that the kernel has, and moves PID 1 out of the root group, where limits
// and protections do not count.
func (s *system) cgroups() error {
	var kind unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &kind); err != nil || kind.Type != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("enable controllers: %s is not a cgroup v2 file system", cgroupRoot)
	}
	for _, dir := range []string{ownGroup, servicesGroup} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	faults := []error{sysctl.Write(filepath.Join(ownGroup, "cgroup.procs"), "0")}
	for _, dir := range []string{cgroupRoot, servicesGroup} {
		faults = append(faults, enableControllers(dir))
	}
	if err := sysctl.Write(filepath.Join(ownGroup, "memory.min"), strconv.FormatInt(int64(ownMemory), 10)); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
		faults = append(faults, sysctl.Write(filepath.Join(dir, "cgroup.subtree_control"), "+"+name))
	}
	return errors.Join(faults...)
}

// findDisk learns which disk the device runs from: the one whose partition is attached as the slot. All other partitions
// are taken from that disk, whatever labels other disks carry.
func (s *system) findDisk() error {
	line, err := cmdline.Read()
	s.Cmdline = line
	if err != nil {
		s.log.Warn("command line is damaged", "error", err) // the slot is attached already, its name is for people
	}
	have, err := attach.ReadMounts()
	if err != nil {
		return err
	}
	slot, found := attach.At(have, partition.Slot)
	if !found {
		return fmt.Errorf("find disk: nothing is attached at %s", partition.Slot)
	}
	if s.Partitions, err = disk.Read("/sys"); err != nil {
		return err
	}
	part, found := disk.ByDevice(s.Partitions, slot.Major, slot.Minor)
	if !found {
		return fmt.Errorf("find disk: no partition is device %d:%d", slot.Major, slot.Minor)
	}
	s.Disk = part.Disk
	s.record.Locate(line.Slot, part.Disk)
	return nil
}

func diskDeeds(in Inputs) []deed {
	return []deed{{does: []string{fmt.Sprintf("slot %s of disk %q, by the device attached at %s", in.Cmdline.Slot, in.Disk, partition.Slot)}}}
}

// on is the disk that the steps found.
func (in Inputs) on() partition.Disk { return partition.Disk{Name: in.Disk, Partitions: in.Partitions} }

func attachDeeds(label string) func(Inputs) []deed {
	return func(in Inputs) []deed {
		do := func(s *system) error { return s.attacher.Attach(in.on(), label) }
		return []deed{{partition.AttachPlan(in.on(), label), do}}
	}
}

func purgeDeeds(label string) func(Inputs) []deed {
	return one(func(s *system) error { return s.attacher.Purge(label) }, partition.PurgePlan(label)...)
}

func limitDeeds(in Inputs) []deed {
	return []deed{{partition.LimitPlan(), func(s *system) error { return s.attacher.LimitContainers(in.on()) }}}
}

func (s *system) lookAtBinds() (err error) {
	s.Binds, err = persist.Table()
	return err
}

// bindDeeds is one deed for all of them: they are made below one open root.
func bindDeeds(in Inputs) []deed {
	return []deed{{printed(in.Binds), func(*system) error {
		root, err := persist.Open(partition.Target(disk.State), "/")
		if err != nil {
			return err
		}
		defer root.Close()
		var faults []error
		for _, b := range in.Binds {
			faults = append(faults, root.Apply(b))
		}
		return errors.Join(faults...)
	}}}
}

// printed is a line for each.
func printed[T fmt.Stringer](all []T) []string {
	lines := make([]string, len(all))
	for i, one := range all {
		lines[i] = one.String()
	}
	return lines
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

func (s *system) lookAtSysctls() (err error) {
	s.Sysctls, err = sysctl.Table()
	return err
}

func sysctlDeeds(in Inputs) []deed {
	var all []deed
	for _, one := range in.Sysctls {
		all = append(all, deed{[]string{one.String()}, func(*system) error { return sysctl.Apply(sysctl.Root, one) }})
	}
	return all
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
	s.traces.Marker, s.traces.Fault = lastboot.ReadMarker(lastboot.MarkerFile)
	s.marking.Begin(lastboot.MarkerFile, s.log)
	return nil
}

// lastBootDeeds bring out what the boot before this one left of its end, and say how it ended.
func lastBootDeeds(Inputs) []deed {
	return []deed{
		{[]string{"load " + pstoreModule + " if there is " + firmwareDir}, (*system).loadPstore},
		{[]string{pstore.String() + " if this kernel has it", "read and remove what is there"}, (*system).takePstore},
		{[]string{"tell how the boot before this one ended"}, (*system).tellLastBoot},
	}
}

// tellLastBoot says how the boot before this one ended.
func (s *system) tellLastBoot() error {
	last := lastboot.Classify(s.traces)
	s.record.Remember(last)
	reason, _, _ := strings.Cut(last.Why, "\n") // the rest of a panic is for osctl boot --last
	s.log.Log(context.Background(), levels[last.How], "last boot ended", "status", last.How, "reason", reason)
	return nil
}

// levels of the ways in which a boot ends: a person should know of all but one.
var levels = map[string]slog.Level{lastboot.EndPanic: slog.LevelError, lastboot.EndWatchdog: slog.LevelError, lastboot.EndPower: slog.LevelWarn}

// The persistent store, where the last words of a panic are, and what makes it of the variables of EFI.
const (
	firmwareDir  = "/sys/firmware/efi"
	pstoreModule = "efi_pstore"
)

var pstore = attach.Entry{Name: "pstore", Target: lastboot.PstoreDir, Type: "pstore", Flags: []string{"nosuid", "nodev", "noexec"}}

func (s *system) loadPstore() error {
	if _, err := os.Stat(firmwareDir); err == nil {
		_ = s.attacher.Load(pstoreModule) // a firmware without variables has none
	}
	return nil
}

// takePstore attaches the persistent store, where the board has one, and takes the last panic out of it.
func (s *system) takePstore() (err error) {
	if _, err := os.Stat(lastboot.PstoreDir); err != nil {
		return nil // this kernel has none
	}
	if err := attach.Ensure(pstore); err != nil {
		return err
	}
	s.traces.Panic, err = lastboot.TakePanic(lastboot.PstoreDir)
	return err
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
		spec.Layer{FS: plainfile.Dir(shippedDir), Dir: ".", Path: shippedDir},
		spec.Layer{FS: plainfile.Dir(ownersDir), Dir: ".", Path: ownersDir},
	)
}

func serviceDeeds(in Inputs) []deed {
	return []deed{{does: []string{"load " + strings.Join(in.Services, ", ")}}}
}
