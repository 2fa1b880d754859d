package values

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// OwnUsers reports whether a value of userns_mode asks for a user namespace of its own. The word is podman's: docker
// has one namespace for all containers of a daemon, and compose leaves the values to who carries them out.
func OwnUsers(mode string) (bool, error) {
	switch mode {
	case "auto":
		return true, nil
	case "", "host":
		return false, nil
	}
	return false, fmt.Errorf("%q is not carried out: write auto for users of its own, or host", mode)
}

// Fault is what is wrong with a key of a service.
type Fault struct{ Name, Fault string }

// WithOwnUsers finds what a container with users of its own cannot have: docker's rules with userns-remap, and the
// namespaces of other services. namespaces are the values of the keys that share one.
func WithOwnUsers(own bool, namespaces map[string]string, privileged bool) (faults []Fault) {
	if !own {
		return nil
	}
	if privileged {
		faults = append(faults, Fault{"privileged", "with userns_mode: auto no container has the rights of the" +
			" device: write userns_mode: host, or name what it needs in cap_add and devices"})
	}
	for _, key := range slices.Sorted(maps.Keys(namespaces)) {
		name, shared := strings.CutPrefix(namespaces[key], "service:")
		switch {
		case shared:
			faults = append(faults, Fault{key, "with userns_mode: auto a container uses no namespace of service " +
				name + ": write userns_mode: host"})
		case namespaces[key] == "host":
			faults = append(faults, Fault{key, "with userns_mode: auto a container uses no namespace of the" +
				" device: write userns_mode: host, or remove the key"})
		}
	}
	return faults
}
