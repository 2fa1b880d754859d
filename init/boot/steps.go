package boot

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/bsp/watchdog"
	"resinos/init/ahead"
	"resinos/init/development"
	"resinos/init/lastboot"
	"resinos/init/walk"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/plainfile"
	"resinos/net/clockstatus"
	"resinos/net/keyimport"
	"resinos/net/savedtime"
	"resinos/services/bootreport"
	"resinos/services/boottime"
	"resinos/services/config"
	"resinos/services/log/pipe"
	"resinos/services/settings"
	"resinos/services/spec"
	"resinos/services/spec/definition"
	"resinos/services/sysctl"
)

// The paths on the root.
const (
	runtimeDir    = "/run/resinos"
	cgroupRoot    = "/sys/fs/cgroup"
	ownGroup      = cgroupRoot + "/init"
	servicesGroup = cgroupRoot + "/resinos"
	shippedDir    = "/usr/lib/resinos/services"
	ownersDir     = "/etc/resinos/services"
	MachineID     = "/etc/machine-id"
	hostnameFile  = "/etc/hostname"
)

// ownMemory is the memory of PID 1 that the kernel never reclaims for others.
const ownMemory = 16 * disk.MiB

// deed is one action of a step: the line that a plan prints, and the function that carries it out. Both are made from
// the same values.
type deed struct {
	does []string
	do   func(*System) error // nil: the line only shows what look found
}

// step is one row of the boot. It reads the actual state, and then carries out the deeds that follow from it; osctl
// plan prints the same deeds.
type step struct {
	name     string
	severity bootreport.Severity
	look     func(*System) error // fills in Inputs; nil: the deeds depend on nothing else
	deeds    func(Inputs) []deed // pure
}

// steps is the boot. The steps that the splash needs come first, because a person waits for it; those that the
// container engine needs follow. No step waits for network or time.
func steps() []step {
	return []step{
		{"attach pseudo", bootreport.Degraded, (*System).lookAtPseudo, pseudoDeeds},
		{"clock", bootreport.Degraded, nil, one((*System).startClock,
			"set the clock to the latest of build time and hardware clock",
			"note in "+clockstatus.Path+" where it began")},
		{"share mounts", bootreport.Degraded, nil, one((*System).shareMounts,
			"let mounts reach the services that have a mount namespace")},
		{"open log", bootreport.Degraded, nil, one((*System).openLog, "write into "+pipe.Dir)},
		{"cgroups", bootreport.Degraded, nil, one((*System).cgroups,
			"create "+ownGroup+" and "+servicesGroup, "move PID 1 to "+ownGroup,
			"enable all controllers for the services", "keep "+ownMemory.String()+" of memory for PID 1")},
		{"find disk", bootreport.Degraded, (*System).findDisk, diskDeeds},
		{"attach state", bootreport.Degraded, nil, attachDeeds(disk.State)},
		{"purge state", bootreport.Degraded, nil, purgeDeeds(disk.State)},
		{"saved clock", bootreport.Ignorable, nil, one((*System).resumeClock,
			"set the clock to the time of "+savedtime.Path+" if that is later")},
		{"bind persistent paths", bootreport.Degraded, (*System).lookAtBinds, bindDeeds},
		{"load modules", bootreport.Degraded, nil, one((*System).loadModules,
			"load "+strings.Join(bootModules, " "))},
		{"attach boot", bootreport.Degraded, nil, attachDeeds(disk.Boot)},
		{"read config.json", bootreport.Degraded, nil, one((*System).readConfig,
			"read "+config.Path+", else its last good copy; defaults for what is missing or wrong")},
		{"splash", bootreport.Ignorable, nil, one((*System).splash, "if all conditions of "+ahead.Service+
			" hold, and there is a screen or a display: load its driver and start "+ahead.Service+
			", beside the next steps")},
		{"share with containers", bootreport.Degraded, (*System).lookAtShares, shareDeeds},
		{"mark boot", bootreport.Ignorable, nil, one((*System).markBoot, "read "+lastboot.MarkerFile,
			"note there that this boot runs, beside the next steps")},
		{"attach data", bootreport.Degraded, nil, attachDeeds(disk.Data)},
		{"purge data", bootreport.Degraded, nil, purgeDeeds(disk.Data)},
		{"limit containers", bootreport.Degraded, nil, limitDeeds},
		{"loopback", bootreport.Degraded, nil, one((*System).loopback, "set link lo up")},
		{"sysctls", bootreport.Ignorable, (*System).lookAtSysctls, sysctlDeeds},
		{"load overlay", bootreport.Degraded, nil, one((*System).loadOverlay, "load "+overlay)},
		{"watchdog", bootreport.Ignorable, nil, one((*System).openWatchdog,
			fmt.Sprintf("start %s with %v, %v once services run", watchdog.Path, bootTimeout, WatchdogTimeout))},
		{"last boot", bootreport.Ignorable, nil, lastBootDeeds},
		{"key files", bootreport.Ignorable, nil, one((*System).importKeyFiles,
			"copy what changed in "+keyimport.From+" to "+keyimport.To+"; the same for dispatcher.d")},
		{"identity", bootreport.Degraded, nil, identityDeeds},
		{"hostname", bootreport.Ignorable, nil, hostnameDeeds},
		{"load services", bootreport.Degraded, (*System).LoadServices, serviceDeeds},
	}
}

// one makes a step of a single deed, whatever the inputs.
func one(do func(*System) error, does ...string) func(Inputs) []deed {
	return func(Inputs) []deed { return []deed{{does, do}} }
}

// carryOut calls look, and carries out the deeds. All deeds are carried out, even if look or another deed fails.
func (row step) carryOut(s *System) error {
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

func (s *System) actions() []walk.Action {
	table := steps()
	actions := make([]walk.Action, len(table))
	for i, row := range table {
		actions[i] = walk.Action{Name: row.name, Severity: row.severity, Do: func() error { return row.carryOut(s) }}
	}
	return actions
}

func (s *System) lookAtPseudo() (err error) {
	if s.mounted, err = attach.ReadMounts(); err != nil {
		s.mounted = nil // without /proc everything is missing, /proc first
	}
	s.Pseudo, err = attach.Table()
	return err
}

func pseudoDeeds(in Inputs) []deed {
	var all []deed
	for _, e := range in.Pseudo {
		all = append(all, deed{[]string{e.String()}, func(s *System) error {
			if _, there := attach.At(s.mounted, e.Target); there {
				return nil
			}
			return attach.Apply(e)
		}})
	}
	return all
}

// shareMounts makes later mounts appear in the mount namespaces of services, which is not the kernel's default.
func (s *System) shareMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts: %w", err)
	}
	return nil
}

// printed returns one line for each.
func printed[T fmt.Stringer](all []T) []string {
	lines := make([]string, len(all))
	for i, one := range all {
		lines[i] = one.String()
	}
	return lines
}

// loopback sets the link lo up, which gives it its addresses. The forwarder listens there.
func (s *System) loopback() error {
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

func (s *System) lookAtSysctls() (err error) {
	s.Sysctls, err = sysctl.Table()
	return err
}

func sysctlDeeds(in Inputs) []deed {
	var all []deed
	for _, one := range in.Sysctls {
		all = append(all, deed{[]string{one.String()}, func(*System) error { return sysctl.Apply(sysctl.Root, one) }})
	}
	return all
}

// bootModules are what the boot partition needs on every board: FAT and its character sets. overlay is what the engine
// mounts. PID 1 loads them itself, because otherwise the kernel starts modprobe for each, which takes much longer.
var bootModules = []string{"vfat", "nls_cp437", "nls_ascii"}

const overlay = "overlay"

func (s *System) loadModules() error { return s.load(bootModules...) }

func (s *System) loadOverlay() error { return s.load(overlay) }

func (s *System) load(names ...string) error {
	loader, err := s.env.Modules()
	if err != nil {
		return err
	}
	var faults []error
	for _, name := range names {
		faults = append(faults, loader.Load(name, ""))
	}
	return errors.Join(faults...)
}

// splash starts the splash ahead of the other services.
func (s *System) splash() error {
	if s.env.Splash == nil {
		return nil
	}
	sp, found := Service(ahead.Service)
	if found {
		s.env.Splash(sp, s.Loaded)
	}
	return nil // load services reports what is wrong with the file
}

// LoadServices reads the service files into Specs.
func (s *System) LoadServices() error {
	specs, faults := Services()
	s.Specs = specs
	s.Services = nil
	for _, one := range specs {
		s.Services = append(s.Services, one.Name)
	}
	return errors.Join(faults...)
}

// Services reads the service files of the image, and the owner's, which override them.
func Services() ([]spec.Spec, []error) { return definition.Load(layers("")...) }

// Service reads the files of one service. It is not found if there is none, or none that is right.
func Service(name string) (sp spec.Spec, found bool) {
	specs, _ := definition.Load(layers(name + ".toml")...)
	if len(specs) == 0 {
		return spec.Spec{}, false
	}
	return specs[0], true
}

// layers are the directories of service files, or one file in each of them.
func layers(file string) []definition.Layer {
	var all []definition.Layer
	for _, dir := range []string{shippedDir, ownersDir} {
		all = append(all, definition.Layer{FS: plainfile.Dir(dir), Dir: ".", Path: dir, Only: file})
	}
	return all
}

func serviceDeeds(in Inputs) []deed {
	all := []deed{{does: []string{"load " + strings.Join(in.Services, ", ")}}}
	const mode = config.DevelopmentMode
	asked := in.Config.Flag(mode) && in.Config.Values[mode].From != settings.Default
	if fault := development.Lacks(in.Services); asked && fault != nil {
		all = append(all, deed{[]string{"record that " + mode + " has features that are " + fault.Error()},
			func(*System) error {
				return settings.Take(settings.Path, "init", in.Config, []string{mode}, boottime.Now(), fault)
			}})
	}
	return all
}
