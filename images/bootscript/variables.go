package bootscript

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Sizes of the variable blocks, fixed for the life of a device: the bootloader and the device rewrite them in place.
const (
	// GrubEnvSize is what GRUB demands. The live lines stay in the first sector, so that a change is one sector's write.
	GrubEnvSize = 1024
	// UBootEnvSize is below one sector, so that fatwrite writes one sector of data.
	UBootEnvSize = 504

	sectorSize = 512
	grubHeader = "# GRUB Environment Block\n"
)

// GrubEnv writes GRUB's environment block:
//
//	# GRUB Environment Block\n
//	name=value\n …
//	##### … up to 1024 bytes
func GrubEnv(values map[string]string) ([]byte, error) {
	text, err := lines(values)
	if err != nil {
		return nil, err
	}
	block := []byte(grubHeader + text)
	if len(block) > sectorSize {
		return nil, fmt.Errorf("write boot variables: %d bytes, at most %d fit into the first sector", len(block), sectorSize)
	}
	return append(block, bytes.Repeat([]byte("#"), GrubEnvSize-len(block))...), nil
}

// UBootEnv writes U-Boot's variables as text that "env import -t" reads:
//
//	name=value\n …
//	NUL bytes up to 504
func UBootEnv(values map[string]string) ([]byte, error) {
	text, err := lines(values)
	if err != nil {
		return nil, err
	}
	if len(text) >= UBootEnvSize {
		return nil, fmt.Errorf("write boot variables: %d bytes, at most %d fit", len(text), UBootEnvSize-1)
	}
	return append([]byte(text), make([]byte, UBootEnvSize-len(text))...), nil
}

func lines(values map[string]string) (string, error) {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		if name == "" || strings.ContainsAny(name, "=#\n\\\x00 ") || strings.ContainsAny(value, "\n\\\x00") {
			return "", fmt.Errorf("write boot variable %q = %q: a character that the block cannot hold", name, value)
		}
		fmt.Fprintf(&b, "%s=%s\n", name, value)
	}
	return b.String(), nil
}

// ParseEnv reads either block. Lines that are no assignment are left out: a bootloader does the same.
func ParseEnv(block []byte) map[string]string {
	text, _, _ := bytes.Cut(block, []byte{0})
	values := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if ok && name != "" && !strings.HasPrefix(name, "#") {
			values[name] = value
		}
	}
	return values
}
