// Package bootscript writes the scripts of the bootloaders, and the boot variables with their first values.
//
// It owns the scripts (templates beside this file) and U-Boot's image header. The variables that the scripts read are
// those of bsp/bootvars, the files that they load those of bsp/slot. It never writes a disk and never changes a
// variable on a running device. Read first: Script.
package bootscript

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
	"text/template"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
	"resinos/mounts/disk"
)

//go:embed grub.cfg.tmpl
var grubTemplate string

//go:embed boot.cmd.tmpl
var ubootTemplate string

// Script is everything a boot script depends on.
type Script struct {
	Kind       bootvars.Bootloader
	Arch       string     // Go's name of the architecture
	PartitionA int        // number of slot A's partition
	PartitionB int        // number of slot B's partition
	Variant    string     // production, development or standalone
	Consoles   []string   // of the board; the last one becomes /dev/console
	Board      []string   // words of the command line that only this board's kernel needs
	DeviceTree string     // below slot.DeviceTrees; empty: that of the bootloader is used
	Memory     disk.Bytes // memory that the board needs, for a message
	Prompt     string     // U-Boot's commands before its prompt; empty: there is no prompt, as always in production
}

// Files are the files that go on the boot partition, by their path there.
type Files map[string][]byte

// Render returns the script and the variables with their first values.
func (s Script) Render(epoch int64) (Files, error) {
	variables, err := s.Kind.Encode(bootvars.New())
	if err != nil {
		return nil, err
	}
	files := Files{s.Kind.File(): variables}
	switch s.Kind {
	case bootvars.Grub:
		text, err := s.fill(grubTemplate)
		files["EFI/debian/grub.cfg"] = []byte(text)
		return files, err
	case bootvars.UBoot:
		text, err := s.fill(ubootTemplate)
		files["boot.scr"] = wrap(text, s.Arch, epoch)
		return files, err
	}
	return nil, fmt.Errorf("write boot script: no script for bootloader %q", s.Kind)
}

func (s Script) fill(text string) (string, error) {
	t, err := template.New("script").Option("missingkey=error").Parse(text)
	if err != nil {
		return "", fmt.Errorf("parse boot script template: %w", err)
	}
	if s.Prompt = strings.TrimSpace(s.Prompt); s.Variant == "production" {
		s.Prompt = ""
	}
	var b bytes.Buffer
	var names []string
	for _, v := range bootvars.Table() {
		names = append(names, v.Name)
	}
	err = t.Execute(&b, struct {
		Script
		Arguments, Command, VariablesFile, VariablesSize, Variables, UpdateWord, TrialWord, Kernel, Initramfs,
		DeviceTrees string
	}{
		s, s.Arguments(), s.command(), s.Kind.File(), fmt.Sprintf("%x", s.Kind.Size()), strings.Join(names, " "),
		bootvars.UpdateWord, bootvars.TrialWord,
		slot.Kernel, slot.Initramfs, slot.DeviceTrees,
	})
	return b.String(), err
}

// command returns U-Boot's command for the kernel's format.
func (s Script) command() string {
	if s.Arch == "arm" {
		return "bootz"
	}
	return "booti"
}

// Arguments returns the part of the kernel command line that does not depend on the slot.
//
// In every variant a kernel that panics must report it and restart; Debian's default is to hang. The serial console is
// registered in production too, where "quiet" lets only errors and worse through: a panic can be seen, and nobody can
// log in there because no getty runs. The console of development images also shows warnings.
//
// cryptomgr.notests: by default the kernel does not test its ciphers at each start, but Debian's configuration does.
// Without the tests PID 1 starts after 60 % of the instructions (docs/decisions/0011-images-boot.md).
//
// debugfs=off: nobody can mount it; it is for people who work on the kernel. Debian's configuration has what else is
// known to harden a kernel (init_on_alloc, randomize_kstack_offset, no vsyscall) but for what images/hardening lists.
//
// gpt: without it the kernel does not look for the second copy of a partition table whose first copy is damaged.
func (s Script) Arguments() string {
	args := []string{"panic=10", "oops=panic", "cryptomgr.notests", "gpt", "debugfs=off"}
	args = append(args, s.Board...)
	for _, c := range s.Consoles {
		args = append(args, "console="+c)
	}
	if s.Variant == "production" {
		args = append(args, "quiet", "vt.global_cursor_default=0") // no cursor before the logo
	} else {
		args = append(args, "loglevel=5")
	}
	return strings.Join(args, " ")
}
