// Package bootscript writes what the bootloader reads: its script and the block of variables that the script heeds.
//
// It owns: the scripts (templates beside this file), U-Boot's image header, the layout of the variable blocks.
// It never does: write a disk, or change a variable on a running device.
// Read first: Script.
package bootscript

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
	"text/template"
)

// Kind is a bootloader.
type Kind string

// The bootloaders there are scripts for.
const (
	Grub  Kind = "grub-efi"
	UBoot Kind = "u-boot"
)

//go:embed grub.cfg.tmpl
var grubTemplate string

//go:embed boot.cmd.tmpl
var ubootTemplate string

// Script is everything a boot script depends on.
type Script struct {
	Kind       Kind
	Arch       string   // Go's name of the architecture
	PartitionA int      // number of slot A's partition
	PartitionB int      // number of slot B's partition
	Variant    string   // production, development or standalone
	Consoles   []string // of the board, the last becomes /dev/console
	DeviceTree string   // below dtbs/; empty: the bootloader's own is handed on
}

// Files are the files that go on the boot partition, by their path there.
type Files map[string][]byte

// Render writes the script and the variables with their first values (slot A).
func (s Script) Render(epoch int64) (Files, error) {
	switch s.Kind {
	case Grub:
		text, err := s.fill(grubTemplate)
		if err != nil {
			return nil, err
		}
		block, err := GrubEnv(map[string]string{"slot": "A"})
		return Files{"EFI/debian/grub.cfg": []byte(text), "grubenv": block}, err
	case UBoot:
		text, err := s.fill(ubootTemplate)
		if err != nil {
			return nil, err
		}
		block, err := UBootEnv(map[string]string{"slot": "A"})
		return Files{"boot.scr": wrap(text, s.Arch, epoch), "resinos.env": block}, err
	}
	return nil, fmt.Errorf("write boot script: no script for bootloader %q; there are %s and %s", s.Kind, Grub, UBoot)
}

func (s Script) fill(text string) (string, error) {
	t, err := template.New("script").Option("missingkey=error").Parse(text)
	if err != nil {
		return "", fmt.Errorf("parse boot script template: %w", err)
	}
	var b bytes.Buffer
	err = t.Execute(&b, struct {
		Script
		Arguments, Command, Prefix string
	}{s, s.Arguments(), s.command(), "/"})
	return b.String(), err
}

// command is U-Boot's command for the kernel's format.
func (s Script) command() string {
	if s.Arch == "arm" {
		return "bootz"
	}
	return "booti"
}

// Arguments is the part of the kernel command line that does not depend on the slot.
//
// A kernel that fails must say so and start again, whatever the variant: Debian's default is to hang. The serial
// console stays registered in production, where "quiet" lets only errors and worse through: a panic is seen, and as
// no getty runs there nobody can log in on it. The console of development images also carries warnings.
//
// cryptomgr.notests: the kernel's own default, which Debian's configuration turns round, is not to test its ciphers
// at each start; without the tests PID 1 starts after 60 % of the instructions (docs/decisions/0011-images-boot.md).
//
// gpt: without it the kernel does not look for the second copy of a partition table whose first is damaged.
func (s Script) Arguments() string {
	args := []string{"panic=10", "oops=panic", "cryptomgr.notests", "gpt"}
	for _, c := range s.Consoles {
		args = append(args, "console="+c)
	}
	if s.Variant == "production" {
		args = append(args, "quiet")
	} else {
		args = append(args, "loglevel=5")
	}
	return strings.Join(args, " ")
}
