// Package development owns the table of what a device opens for its developer while developmentMode of config.json is
// on. It opens nothing: services have conditions on the key, netd and sshd follow it. Read Features first.
package development

import (
	"fmt"
	"slices"
	"strings"
)

// Feature is one way into the device that the development mode opens and its end closes.
type Feature struct {
	Name    string
	Does    string // for people
	Service string // what has it; an image without this service has not the feature either
}

// Features returns the table, which docs/device.md shows.
func Features() []Feature {
	return []Feature{
		{"console", "a shell on the serial line and the screen", "getty"},
		{"ssh", "ssh without a key, while os.sshKeys names none", "sshd"},
		{"docker", "Docker's API", "docker"},
		{"filter", "the packet filter lets all ports be reached", "netd"},
	}
}

// Lacks names the features that an image with these services cannot open; nil: none.
func Lacks(services []string) error {
	var missing []string
	for _, f := range Features() {
		if !slices.Contains(services, f.Service) {
			missing = append(missing, fmt.Sprintf("%s (%s: no service %s)", f.Name, f.Does, f.Service))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("not in this image: %s", strings.Join(missing, ", "))
}
