// Package osrelease reads /etc/os-release (os-release(5)), which identifies the running image. It never writes it;
// images/rootfs does.
package osrelease

import (
	"os"
	"strings"
	"time"
)

// Path is the path of the file on the device.
const Path = "/etc/os-release"

// Production is the VARIANT_ID of a production image.
const Production = "production"

// Variant returns VARIANT_ID: production, development or standalone; empty if it cannot be read.
func Variant() string { return Value("VARIANT_ID") }

// BuildTime returns when the image was built; zero if it cannot be read.
func BuildTime() time.Time {
	at, err := time.Parse(time.RFC3339, Value("RESIN_BUILD_TIME"))
	if err != nil {
		return time.Time{}
	}
	return at
}

// Value returns one value of the file; empty if it is missing or cannot be read.
func Value(key string) string {
	text, err := os.ReadFile(Path)
	if err != nil {
		return ""
	}
	return Parse(string(text), key)
}

// Parse returns one value of the text of such a file; empty if it is missing.
func Parse(text, key string) string {
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, key+"="); found {
			return strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return ""
}
