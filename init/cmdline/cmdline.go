// Package cmdline reads the kernel command line: the slot that the boot loader chose, and the single words. It applies
// nothing. Read Line first.
package cmdline

import (
	"fmt"
	"os"
	"strings"

	"resinos/bsp/bootvars"
)

// Line is what the boot loader says of the slot. A key that occurs twice counts as written last, as the kernel does
// it.
type Line struct {
	Root string // PARTUUID of the slot's partition, lower case
	Slot string // A or B
	// Trial says that the slot is on trial: nobody has confirmed its version yet.
	Trial bool
}

// Read reads the command line of the running kernel.
func Read() (Line, error) {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return Line{}, fmt.Errorf("read command line: %w", err)
	}
	return Parse(string(text))
}

// Parse picks our keys out of a kernel command line. The value is what is right even when err says that another is
// wrong.
func Parse(text string) (Line, error) {
	var c Line
	var err error
	for _, word := range Words(text) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case bootvars.TrialWord:
			c.Trial = true
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

// Words splits a command line at blanks outside double quotes and drops the quotes, as lib/cmdline.c in the kernel
// does. Not with FieldsFunc, which does not say in which order, or how often, it asks about each character.
func Words(text string) []string {
	var words []string
	var word []byte
	inWord, quoted := false, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted, inWord = !quoted, true
		case !quoted && (c == ' ' || c == '\t' || c == '\n'):
			if inWord {
				words = append(words, string(word))
			}
			word, inWord = word[:0], false
		default:
			word, inWord = append(word, c), true
		}
	}
	if inWord {
		words = append(words, string(word))
	}
	return words
}
