package servicebench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pebbleVariable names a pebble binary: Debian does not ship it.
const pebbleVariable = "RESINOS_PEBBLE"

// lifeProgram is where the service's program lies in every guest.
const lifeProgram = "/bench/life"

// manager is one column of the measurement.
type manager struct {
	name    string
	origin  string // Debian package, empty when it is built or given
	how     string // how it is run: as its authors mean it
	policy  string // what it does after a service's first unexpected end
	helper  string // program of its one process a service, empty when it has none
	version func() string
	plan    func(t *testing.T, p *plan, n int) error // fails with exec.ErrNotFound when the manager is not on this host
}

// managers are measured in this order, round by round.
var managers = []manager{
	{name: "resinos", how: "init as PID 1, one TOML file a service, a cgroup each",
		policy: "at once, then after 0.1 s, 0.2 s ... 30 s", plan: planOurs,
		version: func() string { return "this checkout" }},
	{name: "finit", origin: "finit", how: "finit as PID 1, one line a service",
		policy: "at once as seen, then after 2 s and 5 s; given up after 10 tries", plan: planFinit},
	{name: "s6", origin: "s6", how: "s6-svscan as PID 1, run is the program itself, no shell",
		policy: "a second after the end", helper: "s6-supervise", plan: planS6},
	{name: "runit", origin: "runit", how: "runit as PID 1 with runsvdir as its stage 2, run is the program itself, " +
		"no shell",
		policy: "at once, but not within a second of its last start", helper: "runsv", plan: planRunit},
	{name: "pebble", how: "pebble run as PID 1, one layer with all services",
		policy: "after 0.5 s, 1 s ... 30 s (backoff-delay, its default)", plan: planPebble, version: pebbleVersion},
}

// present prepares the managers that this host has, and says of each other one why it is left out.
func present(t *testing.T, n int) map[string]plan {
	t.Helper()
	life := buildLife(t)
	plans := map[string]plan{}
	for _, m := range managers {
		p := plan{Files: map[string]string{lifeProgram: life}, Texts: map[string]string{}, Links: map[string]string{}}
		if err := m.plan(t, &p, n); err != nil {
			if !errors.Is(err, exec.ErrNotFound) {
				t.Fatalf("%s: %v", m.name, err)
			}
			t.Logf("%s: not measured, no binary: %v", m.name, err)
			continue
		}
		plans[m.name] = p
	}
	return plans
}

// versionOf is what the report says next to the manager's name.
func (m manager) versionOf() string {
	if m.version != nil {
		return m.version()
	}
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", m.origin).Output()
	if err != nil {
		return "version unknown"
	}
	return string(out)
}

func planOurs(t *testing.T, p *plan, n int) error {
	p.Files["/usr/sbin/init"] = buildInit(t)
	p.Argv = []string{"/usr/sbin/init"}
	// Production, as a device is shipped: the console gets no line for each start.
	p.Texts["/etc/os-release"] = "ID=resinos\nVARIANT_ID=production\n"
	p.Texts["/etc/hostname"], p.Texts["/etc/machine-id"] = "", ""
	for i := range n {
		p.Texts["/usr/lib/resinos/services/"+serviceName(i)+".toml"] = fmt.Sprintf("command = [%q, %q]\n", lifeProgram,
			serviceName(i))
	}
	return nil
}

func planFinit(_ *testing.T, p *plan, n int) error {
	if err := p.programs("finit"); err != nil {
		return err
	}
	p.Argv = []string{p.path("finit")}
	var conf strings.Builder
	conf.WriteString("runlevel 2\n")
	for i := range n {
		fmt.Fprintf(&conf, "service [2] name:%s :%d %s %[1]s -- one of many\n", serviceName(i), i+1, lifeProgram)
	}
	p.Texts["/etc/finit.conf"] = conf.String()
	p.Texts["/etc/fstab"], p.Texts["/etc/hostname"] = "", "bench\n"
	p.Texts["/etc/passwd"], p.Texts["/etc/group"] = "root:x:0:0::/root:/bin/sh\n", "root:x:0:\n"
	return p.shell()
}

func planS6(_ *testing.T, p *plan, n int) error {
	if err := p.programs("s6-svscan", "s6-supervise"); err != nil {
		return err
	}
	p.Argv = []string{p.path("s6-svscan"), "/run/service"}
	p.directories("/run/service", n)
	return nil
}

func planRunit(_ *testing.T, p *plan, n int) error {
	if err := p.programs("runit", "runsvdir", "runsv"); err != nil {
		return err
	}
	p.Argv = []string{p.path("runit")}
	p.Texts["/etc/runit/1"] = "#!/bin/sh\nexit 0\n"
	p.Texts["/etc/runit/2"] = "#!/bin/sh\nexec runsvdir -P /run/service\n"
	p.Texts["/etc/runit/3"] = "#!/bin/sh\nexit 0\n"
	p.directories("/run/service", n)
	return p.shell()
}

func planPebble(_ *testing.T, p *plan, n int) error {
	binary := os.Getenv(pebbleVariable)
	if binary == "" {
		return fmt.Errorf("%w: set %s to a pebble binary", exec.ErrNotFound, pebbleVariable)
	}
	p.Files["/usr/bin/pebble"] = binary
	p.Argv = []string{"/usr/bin/pebble", "run"}
	var layer strings.Builder
	layer.WriteString("services:\n")
	for i := range n {
		fmt.Fprintf(&layer, "  %s:\n    override: replace\n    startup: enabled\n    command: %s %[1]s\n",
			serviceName(i), lifeProgram)
	}
	p.Texts["/var/lib/pebble/default/layers/001-bench.yaml"] = layer.String()
	return nil
}

func pebbleVersion() string {
	out, err := exec.Command(os.Getenv(pebbleVariable), "version", "--client").Output()
	if err != nil {
		return "version unknown"
	}
	return strings.TrimSpace(string(out))
}

// directories makes service directories whose run is the program itself: it takes its name from the directory.
func (p *plan) directories(top string, n int) {
	for i := range n {
		p.Links[filepath.Join(top, serviceName(i), "run")] = lifeProgram
	}
}

// shell adds the shell that scripts of stages are written for.
func (p *plan) shell() error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w: apt-get install busybox-static", err)
	}
	p.Files["/bin/sh"] = busybox
	return nil
}

var library = regexp.MustCompile(`(?m)(?:=>\s+|^\s+)(/\S+) \(0x`)

// programs adds programs of this host, each where it lies here, with the libraries they are linked to.
func (p *plan) programs(names ...string) error {
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			return fmt.Errorf("%w; .ci/apt bench-apt.txt installs it", err)
		}
		p.Files[path] = path
		out, err := exec.Command("ldd", path).CombinedOutput()
		if err != nil && !strings.Contains(string(out), "not a dynamic executable") {
			return fmt.Errorf("list libraries of %s: %w: %s", name, err, out)
		}
		for _, found := range library.FindAllStringSubmatch(string(out), -1) {
			p.Files[found[1]] = found[1]
		}
	}
	return nil
}

// path is where programs has put the program of that name.
func (p *plan) path(name string) string {
	for to := range p.Files {
		if filepath.Base(to) == name {
			return to
		}
	}
	return name
}
