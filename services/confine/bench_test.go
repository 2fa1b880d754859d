package confine

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"resinos/services/spec"
)

// BenchmarkLaunch tells what a launch costs: the device's binary as the applet, then busybox true, beside busybox true
// alone.
func BenchmarkLaunch(b *testing.B) {
	needRoot(b)
	program := filepath.Join(b.TempDir(), "init")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "resinos/init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	command := []string{busybox, "true"}
	for _, c := range []struct {
		name string
		l    *Launch
	}{
		{"direct", nil},
		{"empty", &Launch{Command: command}},
		{"user", &Launch{Command: command, User: "7", Group: "7"}},
		{"full", &Launch{Command: command, User: "7", Group: "7", Confinement: spec.Confinement{
			PrivateTmp: true, ReadOnlyPaths: []string{"/"}, HiddenPaths: []string{"/root"}, Bounded: true,
			NoNewPrivileges: true, Seccomp: "strict"}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			measure(b, func() *exec.Cmd {
				if c.l == nil {
					return exec.Command(command[0], command[1:]...)
				}
				return launched(b, program, *c.l)
			})
		})
	}
	// The same for an applet of the device's binary, which answers at once: with netd's confinement by a launch and by
	// itself.
	netd := Launch{Command: []string{program, "no-such-applet"}, Confinement: spec.Confinement{
		ReadOnlyPaths: []string{"/etc"}, HiddenPaths: []string{"/root"}, Bounded: true, NoNewPrivileges: true,
		Seccomp: "netd"}}
	b.Run("applet", func(b *testing.B) {
		measure(b, func() *exec.Cmd { return exec.Command(program, "no-such-applet") })
	})
	b.Run("applet launched", func(b *testing.B) { measure(b, func() *exec.Cmd { return launched(b, program, netd) }) })
	b.Run("applet itself", func(b *testing.B) {
		measure(b, func() *exec.Cmd {
			cmd := launched(b, program, netd)
			cmd.Args = netd.Command
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
			return cmd
		})
	})
}

// launched is a start of the device's binary with orders.
func launched(b *testing.B, program string, l Launch) *exec.Cmd {
	orders, err := l.Encode()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Args = []string{"launch"}
	cmd.Env = []string{Variable + "=" + orders}
	return cmd
}

// noSuchApplet is how the binary answers to a name that it does not know.
const noSuchApplet = 2

func measure(b *testing.B, command func() *exec.Cmd) {
	var took, spent []time.Duration
	for b.Loop() {
		cmd := command()
		cmd.Dir = "/"
		begin := time.Now()
		if out, err := cmd.CombinedOutput(); cmd.ProcessState == nil ||
			err != nil && cmd.ProcessState.ExitCode() != noSuchApplet {
			b.Fatalf("%v: %s", err, out)
		}
		took = append(took, time.Since(begin))
		spent = append(spent, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
	b.ReportMetric(median(took), "median-ms")
	b.ReportMetric(median(spent), "cpu-ms") // does not care how busy the host is
}

func median(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2].Microseconds()) / 1000
}
