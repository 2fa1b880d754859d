package boards

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"resinos/bsp/bootvars"
	"resinos/bsp/tables"
	"resinos/mounts/disk"
)

// labels are the names of the partitions, in their order on the disk.
var labels = [...]string{"resin-boot", "resin-rootA", "resin-rootB", "resin-state", "resin-data"}

// debianArch maps Go's architecture names to Debian's.
var debianArch = map[string]string{"amd64": "amd64", "arm64": "arm64", "arm": "armhf", "386": "i386",
	"riscv64": "riscv64"}

const (
	leastPartition = 4 * disk.MiB // the alignment of partitions
	leastFAT32     = 34 * disk.MiB
	mostMBR        = 2 * disk.TiB
)

// Parse decodes and checks the text of a board file; file is its name for messages. All faults are reported at once.
func Parse(file string, text []byte) (Board, error) {
	var b Board
	t := tables.Decode(file, text, &b)
	if err := t.Err(); err != nil {
		return Board{}, err // checks of an incomplete board would only repeat these faults
	}
	for _, check := range []func(*tables.Table, Board){
		checkBasics, checkBootloader, checkModules, checkDisk, checkQemu,
	} {
		check(t, b)
	}
	if err := t.Err(); err != nil {
		return Board{}, err
	}
	return b, nil
}

func checkBasics(t *tables.Table, b Board) {
	name := regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)
	if !name.MatchString(b.Name) {
		t.Fault("name", "name %q: want lower-case letters, digits, - and _", b.Name)
	}
	for key, value := range map[string]string{
		"description": b.Description, "suite": b.Suite, "kernel.package": b.Kernel.Package,
		"kernel.image": b.Kernel.Image,
	} {
		if value == "" {
			t.Fault(key, "missing key %s", key)
		}
	}
	if want, known := debianArch[b.Arch]; !known {
		t.Fault("arch", "arch %q is not known", b.Arch)
	} else if b.DebianArch != want {
		t.Fault("debian-arch", "debian-arch %q: want %q for arch %q", b.DebianArch, want, b.Arch)
	}
	for _, word := range b.Kernel.Arguments {
		if !regexp.MustCompile(`^[A-Za-z0-9_.,=:+-]+$`).MatchString(word) {
			t.Fault("kernel.arguments", "kernel.arguments %q: want one word of letters, digits and _.,=:+-", word)
		}
	}
	if m := b.Kernel.Memory; m < disk.MiB || m%disk.MiB != 0 {
		t.Fault("kernel.memory", "kernel.memory of %s: want the least memory that boots, in MiB", m)
	}
	if err := b.Hardware.Check(); err != nil {
		t.Fault("hardware", "hardware: %v", err)
	}
	if len(b.Components) == 0 {
		t.Fault("components", `components: want at least "main"`)
	}
	if len(b.Console.Devices) == 0 {
		t.Fault("console.devices", "console.devices: want at least one")
	}
	packageName := regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]+$`)
	for _, p := range b.Packages() {
		if !packageName.MatchString(p) {
			t.Fault("", "%q is no package name", p)
		}
	}
}

func checkBootloader(t *tables.Table, b Board) {
	if !b.Bootloader.Kind.Known() {
		t.Fault("bootloader.kind", "bootloader.kind %q: want %s or %s", string(b.Bootloader.Kind), bootvars.Grub,
			bootvars.UBoot)
	}
	for _, f := range b.Bootloader.Files {
		checkPath(t, "bootloader.files.source", f.Source)
		checkPath(t, "bootloader.files.target", f.Target)
	}
	if len(b.Bootloader.Files) > 0 && b.Bootloader.Package == "" {
		t.Fault("bootloader.files", "bootloader.files without bootloader.package")
	}
}

func checkModules(t *tables.Table, b Board) {
	for key, patterns := range map[string][]string{
		"modules.include": b.Modules.Include, "modules.exclude": b.Modules.Exclude, "modules.plain": b.Modules.Plain,
	} {
		for _, p := range patterns {
			if _, err := path.Match(p, ""); err != nil || p == "" || strings.HasPrefix(p, "/") ||
				strings.HasSuffix(p, ".ko") {
				t.Fault(key, "pattern %q: want a path below kernel/ without .ko", p)
			}
		}
	}
	for _, part := range b.Modules.Strip {
		if !slices.Contains([]string{"signature", "btf", "trace", "unwind"}, part) {
			t.Fault("modules.strip", "modules.strip %q: want signature, btf, trace or unwind", part)
		}
	}
	for i, m := range b.Initramfs.Modules {
		if m == "" || strings.ContainsAny(m, "/. \t") {
			t.Fault("initramfs.modules", "initramfs.modules %q: want the name of a module", m)
		}
		if slices.Contains(b.Initramfs.Modules[:i], m) {
			t.Fault("initramfs.modules", "initramfs.modules %q is listed twice", m)
		}
	}
	if w := b.Watchdog.Module; w != "" && !slices.Contains(b.Initramfs.Modules, w) {
		t.Fault("watchdog.module", "watchdog.module %q is not in initramfs.modules: without it some boards "+
			"cannot reboot", w)
	}
}

func checkDisk(t *tables.Table, b Board) {
	if b.Disk.Table != "gpt" && b.Disk.Table != "mbr" {
		t.Fault("disk.table", "disk.table %q: want gpt or mbr", b.Disk.Table)
	}
	var total disk.Bytes
	var got []string
	for _, p := range b.Disk.Partitions {
		got = append(got, p.Label)
		switch {
		case p.Size < leastPartition || p.Size%leastPartition != 0:
			t.Fault("disk.partitions", "partition %s of %s: want a multiple of %s", p.Label, p.Size, leastPartition)
		case p.Label == labels[0] && p.Size < leastFAT32:
			t.Fault("disk.partitions", "partition %s of %s: FAT32 needs %s", p.Label, p.Size, leastFAT32)
		case p.Size > mostMBR-total:
			t.Fault("disk.partitions", "partition %s of %s does not fit: the partitions exceed %s", p.Label, p.Size,
				mostMBR)
		default:
			total += p.Size
		}
	}
	if !slices.Equal(got, labels[:]) {
		t.Fault("disk.partitions", "partitions %v: want %v", got, labels)
	}
	if len(got) > 2 && b.Disk.Partitions[1].Size != b.Disk.Partitions[2].Size {
		t.Fault("disk.partitions", "slots A and B differ in size: an update would not fit both")
	}
}

func checkQemu(t *tables.Table, b Board) {
	q := b.Qemu
	if q.System == "" {
		return
	}
	for key, value := range map[string]string{"machine": q.Machine, "cpu": q.CPU, "disk": q.Disk,
		"network": q.Network} {
		if value == "" {
			t.Fault("qemu."+key, "missing key qemu.%s", key)
		}
	}
	for _, f := range q.Firmware {
		checkPath(t, "qemu.firmware.file", f.File)
		if f.Kind != "bios" && f.Kind != "pflash" && f.Kind != "pflash-vars" {
			t.Fault("qemu.firmware.kind", "qemu.firmware.kind %q: want bios, pflash or pflash-vars", f.Kind)
		}
	}
	if len(q.Firmware) > 0 && q.Package == "" {
		t.Fault("qemu.firmware", "qemu.firmware without qemu.package")
	}
}

func checkPath(t *tables.Table, key, p string) {
	if p == "" || path.IsAbs(p) || path.Clean(p) != p || strings.HasPrefix(p, "../") {
		t.Fault(key, "%s: path %s must be relative and clean", key, fmt.Sprintf("%q", p))
	}
}
