package boot

import (
	"fmt"
	"os"
	"strings"
)

// Cmdline is what the kernel command line tells us. A key that occurs twice counts as written last, as the kernel does it.
type Cmdline struct {
	Root string // PARTUUID of the slot's partition, lower case
	Slot string // A or B
}

// ReadCmdline reads the command line of the running kernel.
func ReadCmdline() (Cmdline, error) {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return Cmdline{}, fmt.Errorf("read command line: %w", err)
	}
	return ParseCmdline(string(text))
}

// ParseCmdline picks our keys out of a kernel command line. The value is what is right even when err says that another is wrong.
func ParseCmdline(text string) (Cmdline, error) {
	var c Cmdline
	var err error
	for _, word := range splitWords(text) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "resinos.root":
			uuid, found := strings.CutPrefix(value, "PARTUUID=")
			if !found || uuid == "" {
				err = fmt.Errorf("parse command line: resinos.root=%q, want PARTUUID=…", value)
				continue
			}
			c.Root = strings.ToLower(uuid)
		case "resinos.slot":
			if value != "A" && value != "B" {
				err = fmt.Errorf("parse command line: resinos.slot=%q, want A or B", value)
				continue
			}
			c.Slot = value
		}
	}
	return c, err
}

// splitWords splits at blanks outside double quotes and drops the quotes, as lib/cmdline.c in the kernel does.
func splitWords(text string) []string {
	quoted := false
	words := strings.FieldsFunc(text, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t' || r == '\n')
	})
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], `"`, "")
	}
	return words
}
