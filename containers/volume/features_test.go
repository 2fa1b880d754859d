package volume

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"resinos/containers/app"
)

func TestFeatures(t *testing.T) {
	there := func(path string) bool { return path != "/run/log/journal" }
	for labels, want := range map[string]string{
		"":                                "proc:/proc",
		"io.balena.features.dbus=1":       "proc:/proc /run/dbus:/host/run/dbus:rw",
		"io.resin.features.firmware=true": "proc:/proc /lib/firmware:/lib/firmware:ro",
		"io.balena.features.root-ca=1": "proc:/proc /run/resinos/ca/ca-certificates.crt:" +
			"/etc/ssl/certs/ca-certificates.crt:ro",
		"io.balena.features.dbus=0":        "proc:/proc",
		"io.balena.features.dbus=yes, sir": "proc:/proc",
		"io.balena.features.journal-logs=1": "proc:/proc /var/log/journal:/var/log/journal:ro " +
			"/etc/machine-id:/etc/machine-id:ro",
		"io.balena.features.procfs=1;io.resin.features.procfs=0": "/proc:/proc:rw",
		"io.balena.features.sysfs=true;io.resin.features.kernel-modules=1": "proc:/proc /lib/modules:/lib/modules:ro " +
			"/sys:/sys:rw",
		"io.balena.features.balena-socket=1": "proc:/proc",
	} {
		c := app.Container{Labels: strings.Split(labels, ";")}
		var got []string
		for _, m := range addFeatures([]specs.Mount{{Type: "proc", Source: "proc", Destination: "/proc"}}, c, there) {
			text := m.Source + ":" + m.Destination
			if len(m.Options) > 0 {
				text += ":" + m.Options[2]
			}
			got = append(got, text)
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: %s, want %s", labels, text, want)
		}
	}
}
