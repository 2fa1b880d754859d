package profile

import (
	"slices"

	"resinos/net/keyvalue"
)

// Number returns an option that is a number, or fallback if it is not set.
func (b *Bond) Number(name string, fallback int) int {
	if n, err := keyvalue.Number(b.Options[name], 0, 1<<31-1); err == nil {
		return int(n)
	}
	return fallback
}

// Word returns an option that is a word as the kernel's number of it, or fallback if it is not set.
func (b *Bond) Word(name string, fallback int) int {
	if at := slices.Index(keyvalue.BondWords(name), b.Options[name]); at >= 0 {
		return at
	}
	return b.Number(name, fallback)
}
