package main

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/services/shipped"
)

// watched are the daemons that confine themselves and live without a disk and a console, and the capabilities that they
// have.
var watched = map[string]map[string]int{
	"logd": {"SYS_ADMIN": unix.CAP_SYS_ADMIN, "SYSLOG": unix.CAP_SYSLOG, "SYS_RESOURCE": unix.CAP_SYS_RESOURCE},
	"netd": {"NET_ADMIN": unix.CAP_NET_ADMIN, "NET_RAW": unix.CAP_NET_RAW,
		"NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE, "SYS_TIME": unix.CAP_SYS_TIME},
	"devd": {"SYS_MODULE": unix.CAP_SYS_MODULE, "MKNOD": unix.CAP_MKNOD, "NET_ADMIN": unix.CAP_NET_ADMIN,
		"SYS_NICE": unix.CAP_SYS_NICE,
		"CHOWN":    unix.CAP_CHOWN, "FOWNER": unix.CAP_FOWNER},
}

// granted reports whether whoever runs the tests gives us the capability. A container has not all of them.
func granted(capability int) bool {
	has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(capability), 0, 0, 0)
	return err == nil && has == 1
}

// shippedAs is a shipped service file for the binaries of the test, with a watchdog that no test waits long for and
// without capabilities that there are none of here.
func shippedAs(t *testing.T, name string) string {
	t.Helper()
	text, err := shipped.Files.ReadFile(name + ".toml")
	if err != nil {
		t.Fatal(err)
	}
	replace := func(from, to string) {
		find := regexp.MustCompile(from)
		if !find.Match(text) {
			t.Fatalf("%s.toml has no %s", name, from)
		}
		text = find.ReplaceAll(text, []byte(to))
	}
	replace(`watchdog-every = "\w+"`, `watchdog-every = "3s"`)
	if name != "netd" { // a program of its own
		replace(`"/usr/sbin/`+name+`"`, `"/usr/sbin/init", "`+name+`"`)
	}
	for capability, number := range watched[name] {
		if !granted(number) {
			replace(`"`+capability+`",? ?`, "")
		}
	}
	return string(text)
}

// TestHungDaemons: a daemon that is stopped is killed and comes back, confined as its file says.
func TestHungDaemons(t *testing.T) {
	services := map[string]string{}
	for name := range watched {
		services[name] = shippedAs(t, name)
	}
	g := startGuest(t, services)
	for _, name := range slices.Sorted(maps.Keys(watched)) {
		g.until(name+" is up", func() bool { return g.state(name) == "up" })
		stopped := map[string]int{}
		g.until(name+" is stopped", func() bool {
			stopped[name] = g.pids()[name]
			pid := g.hostPids(stopped)[name]
			return pid != 0 && syscall.Kill(pid, syscall.SIGSTOP) == nil
		})
		g.until(name+" is back", func() bool {
			now := g.pids()[name]
			return now != 0 && now != stopped[name] && g.state(name) == "up"
		})
		if !strings.Contains(g.lastExit(name), "no watchdog message for 4.5s") {
			t.Errorf("%s ended by: %s", name, g.lastExit(name))
		}
		g.confined(name)
	}
}

// confined waits until a daemon has put on what its file says.
func (g *guest) confined(name string) {
	g.t.Helper()
	set := uint64(0)
	for _, number := range watched[name] {
		if granted(number) {
			set |= 1 << number
		}
	}
	g.until(fmt.Sprintf("%s has the capabilities %x and a filter", name, set), func() bool {
		pid := g.hostPids(map[string]int{name: g.pids()[name]})[name]
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // no daemon, no status
		text := string(status)
		return strings.Contains(text, "Seccomp:\t2\n") && strings.Contains(text, "NoNewPrivs:\t1\n") &&
			strings.Contains(text, fmt.Sprintf("CapEff:\t%016x\n", set))
	})
}
