package confine

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"resinos/services/spec"
)

// BenchmarkLaunch tells what a launch costs: the device's binary as the applet, then busybox true, beside busybox true alone.
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
			PrivateTmp: true, ReadOnlyPaths: []string{"/"}, HiddenPaths: []string{"/root"}, Bounded: true, NoNewPrivileges: true, Seccomp: "strict"}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var took, spent []time.Duration
			for b.Loop() {
				cmd := exec.Command(command[0], command[1:]...)
				if c.l != nil {
					orders, err := c.l.Encode()
					if err != nil {
						b.Fatal(err)
					}
					cmd = exec.Command(program)
					cmd.Args = []string{"launch"}
					cmd.Env = []string{Variable + "=" + orders}
				}
				cmd.Dir = "/"
				begin := time.Now()
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				took = append(took, time.Since(begin))
				spent = append(spent, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
			}
			b.ReportMetric(median(took), "median-ms")
			b.ReportMetric(median(spent), "cpu-ms") // does not care how busy the host is
		})
	}
}

func median(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2].Microseconds()) / 1000
}
