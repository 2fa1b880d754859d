package engineclient

import (
	"strings"
	"syscall"
	"testing"

	"resinos/containers/app"
)

func container(appName, service string, restart app.Policy) app.Container {
	return app.Container{App: appName, Service: service, Image: "docker.io/library/busybox:latest",
		Network: app.NetworkHost, Restart: app.Restart{Policy: restart}}
}

func TestHeard(t *testing.T) {
	status := "Name:\tsh\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000004000\nSigCgt:\t0000000000010002\n"
	for sig, want := range map[int]bool{2: true, 17: true, 15: false, 9: false, 64: false} {
		if got := handled(status, syscall.Signal(sig)); got != want {
			t.Errorf("handled(%d) = %v", sig, got)
		}
	}
	if !handled("SigCgt:\tgarbage\n", 15) {
		t.Error("what cannot be read must count as handled")
	}
}

func TestEnvironment(t *testing.T) {
	got := strings.Join(environment([]string{"A=1", "PATH=/x"}, []string{"B=2", "A=3"}), " ")
	if want := "PATH=/x A=3 B=2"; got != want {
		t.Errorf("environment = %q, want %q", got, want)
	}
}
