package bootvars

import "fmt"

// A Bootloader reads the variables.
type Bootloader string

// The supported bootloaders.
const (
	Grub  Bootloader = "grub-efi"
	UBoot Bootloader = "u-boot"
)

// Bootloaders lists them.
func Bootloaders() []Bootloader { return []Bootloader{Grub, UBoot} }

// form is the format of a bootloader's file. Sizes are fixed for the life of a device, because the bootloader and the
// device overwrite the file in place.
type form struct {
	file    string // its name on the boot partition
	head    string
	padding byte
	size    int // bytes
	most    int // bytes of head and assignments
}

// form returns the format for b:
//
//	GRUB: "# GRUB Environment Block\n"   name=value\n …   # up to 1024 bytes
//	      GRUB demands the head and the size. The variables are in the first sector, so that a change writes
//	      one sector.
//	U-Boot ("env import -t"):            name=value\n …   at least one NUL, up to 504 bytes
//	      below one sector, so that fatwrite writes one sector of data.
func (b Bootloader) form() (form, error) {
	switch b {
	case Grub:
		return form{file: "grubenv", head: "# GRUB Environment Block\n", padding: '#', size: 1024, most: 512}, nil
	case UBoot:
		return form{file: "resinos.env", padding: 0, size: 504, most: 503}, nil
	}
	return form{}, fmt.Errorf("no bootloader %q: there are %s and %s", string(b), Grub, UBoot)
}

// Known reports whether b is one of Bootloaders.
func (b Bootloader) Known() bool {
	_, err := b.form()
	return err == nil
}

// File returns the name of the file on the boot partition; "" if b is not one of Bootloaders.
func (b Bootloader) File() string {
	f, _ := b.form() // the zero form has no name
	return f.file
}

// Size returns the size of the file in bytes; 0 if b is not one of Bootloaders.
func (b Bootloader) Size() int {
	f, _ := b.form() // the zero form has no size
	return f.size
}
