package engineclient

import (
	"strings"
	"testing"

	"resinos/containers/app"
)

func container(appName, service string, restart app.Policy) app.Container {
	return app.Container{App: appName, Service: service, Image: "docker.io/library/busybox:latest",
		Network: app.NetworkHost, Restart: app.Restart{Policy: restart}}
}

func TestEnvironment(t *testing.T) {
	got := strings.Join(environment([]string{"A=1", "PATH=/x"}, []string{"B=2", "A=3"}), " ")
	if want := "PATH=/x A=3 B=2"; got != want {
		t.Errorf("environment = %q, want %q", got, want)
	}
}
