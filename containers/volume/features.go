package volume

import (
	"os"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"

	"resinos/containers/app"
	"resinos/services/rootca"
)

// feature is one mount that the label io.balena.features.NAME, or io.resin.features.NAME, gives a container.
type feature struct {
	name, source, target string
	write                bool
}

// features are the labels that have an effect. composefile warns of those for which a device has nothing to give.
// docs/apps.md describes both.
var features = []feature{
	{"dbus", "/run/dbus", "/host/run/dbus", true},
	{"kernel-modules", "/lib/modules", "/lib/modules", false},
	{"firmware", "/lib/firmware", "/lib/firmware", false},
	{"root-ca", rootca.Bundle, rootca.System, false},
	{"journal-logs", "/var/log/journal", "/var/log/journal", false},
	{"journal-logs", "/run/log/journal", "/run/log/journal", false},
	{"journal-logs", "/etc/machine-id", "/etc/machine-id", false},
	{"sysfs", "/sys", "/sys", true},
	{"procfs", "/proc", "/proc", true},
}

// addFeatures adds the mounts that labels ask for, each in the place of a mount that has its target. A mount whose
// source the device does not have is left out.
func addFeatures(mounts []specs.Mount, c app.Container, exists func(path string) bool) []specs.Mount {
	for _, f := range features {
		on := false
		for _, prefix := range []string{"io.balena.features.", "io.resin.features."} {
			asked, err := strconv.ParseBool(c.Label(prefix + f.name)) // any other value than a boolean asks for nothing
			on = on || asked && err == nil
		}
		if !on || !exists(f.source) {
			continue
		}
		mounts = slices.DeleteFunc(mounts, func(m specs.Mount) bool { return m.Destination == f.target })
		mounts = append(mounts, bind(f.source, app.Mount{Target: f.target, ReadOnly: !f.write}))
	}
	return mounts
}

func onDevice(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
