// Package slot defines a slot: its name, the files that the bootloader and stage 1 look for in it, and its manifest.
//
// The boot script, stage 1, the image builder and an updater agree on a slot through this package. It never reads a
// disk, never verifies a signature and never chooses a slot: the boot variables do (bsp/bootvars). Read Manifest first.
package slot

// A Name is A or B.
type Name string

// The two slots of a disk.
const (
	A Name = "A"
	B Name = "B"
)

// Valid reports whether n is A or B.
func (n Name) Valid() bool { return n == A || n == B }

// Other returns the other slot of the disk.
func (n Name) Other() Name {
	if n == B {
		return A
	}
	return B
}

// Target is where the slot that a device runs from is attached, in stage 1 and on the real root.
const Target = "/mnt/sysroot"

// RootHash is the file of the initramfs with the hash of the root (mounts/verity); without it, the root has no hash
// tree.
const RootHash = "root.verity"

// The files of a slot, by their paths in its file system.
const (
	Kernel       = "vmlinuz"
	Initramfs    = "initramfs"
	Root         = "rootfs.squashfs"
	DeviceTrees  = "dtbs" // a directory
	ManifestFile = "manifest.json"
	// only in development images: the shell of stage 1 when neither slot has a root, and no recovery root starts
	Shell = "busybox"
	// only in development images: the recovery root, which stage 1 starts when neither slot has a root
	Recovery = "recovery.squashfs"
)
