package boards

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestShippedBoards(t *testing.T) {
	names := Names()
	for _, want := range []string{"qemu-arm64", "qemu-x86_64"} {
		if !slices.Contains(names, want) {
			t.Errorf("Names() = %v, want %s in it", names, want)
		}
	}
	for _, name := range names {
		b, err := Load(name)
		if err != nil {
			t.Errorf("Load(%s): %v", name, err)
			continue
		}
		if _, err := LockText(name); err != nil {
			t.Errorf("LockText(%s): %v", name, err)
		}
		if i := slices.Index(b.Initramfs.Modules, "crc32c_generic"); i != 0 {
			t.Errorf("%s: crc32c_generic is at %d of initramfs.modules, want first", name, i)
		}
	}
}

func TestLoadUnknownNamesThoseThatExist(t *testing.T) {
	for _, name := range []string{"pdp-11", "", "../boards/qemu-arm64"} {
		_, err := Load(name)
		if err == nil || !strings.Contains(err.Error(), "qemu-x86_64") {
			t.Errorf("Load(%q): %v, want the list of boards", name, err)
		}
	}
	if _, err := LockText("../x"); err == nil {
		t.Error("LockText took a path")
	}
}

func TestParseFaults(t *testing.T) {
	good, err := os.ReadFile("qemu-x86_64.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"unknown key", `[watchdog]`, "[watchdog]\nmodul = \"x\"", "unknown key watchdog.modul"},
		{"hardware", `[watchdog]`, "[hardware]\nled = \"a/b\"\n" +
			"fan.quiet = [{ path = \"../x\", value = \"1\" }]\nfan.cool = []\n[watchdog]",
			`led "a/b": want the name of a directory in /sys/class/leds` + "\n" +
				`fan.cool: it sets nothing` + "\n" + `fan.quiet: path "../x": want a pattern`},
		{"unknown key in a list", `label = "resin-boot",`, `label = "resin-boot", sise = 3,`,
			"unknown key disk.partitions.sise"},
		{"wrong type", `table = "gpt"`, `table = 7`, "disk.table"},
		{"unit", `"40 MiB"`, `"40 MB"`, `parse size "40 MB"`},
		{"memory", `memory = "192 MiB"`, `memory = "0 B"`, "kernel.memory of 0 B: want the least memory that boots"},
		{"unaligned", `"64 MiB"`, `"65 MiB"`, "partition resin-state of 65 MiB: want a multiple of 4 MiB"},
		{"too small for FAT32", `"40 MiB"`, `"32 MiB"`, "FAT32 needs 34 MiB"},
		{"does not fit", `"256 MiB"`, `"3 TiB"`, "partition resin-data of 3 TiB does not fit"},
		{"no overflow", `"256 MiB"`, `"8388607 TiB"`, "does not fit"},
		{"slots differ", `{ label = "resin-rootB", size = "192 MiB" }`, `{ label = "resin-rootB", size = "128 MiB" }`,
			"slots A and B differ"},
		{"label", `"resin-data"`, `"data"`, "want [resin-boot resin-rootA"},
		{"arch", `arch = "amd64"`, `arch = "x86"`, `arch "x86" is not known`},
		{"table", `"gpt"`, `"bsd"`, "want gpt or mbr"},
		{"bootloader", `"grub-efi"`, `"lilo"`, "want grub-efi or u-boot"},
		{"path leads out", `target = "EFI/BOOT/BOOTX64.EFI"`, `target = "../BOOTX64.EFI"`,
			"must be relative and clean"},
		{"watchdog not loaded", `  "i6300esb",`, ``, "watchdog.module \"i6300esb\" is not in initramfs.modules"},
		{"module twice", `  "loop",`, "  \"loop\",\n  \"loop\",", `"loop" is listed twice`},
		{"module is a path", `  "loop",`, `  "kernel/loop.ko",`, "want the name of a module"},
		{"pattern", `exclude = []`, `exclude = ["/a", "b.ko", "[", ""]`, `pattern "/a"`},
		{"firmware kind", `"pflash-vars"`, `"rom"`, `qemu.firmware.kind "rom"`},
		{"package name", `"ovmf"`, `"ovmf; rm -rf"`, `"ovmf; rm -rf" is no package name`},
		{"syntax", `[kernel]`, `[kernel`, "qemu.toml:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(string(good), c.old, c.new, 1)
			if text == string(good) {
				t.Fatalf("%q is not in the board file", c.old)
			}
			_, err := Parse("qemu.toml", []byte(text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("Parse: %v, want %q", err, c.want)
			}
			if !strings.HasPrefix(err.Error(), "qemu.toml:") {
				t.Errorf("Parse: %q does not begin with the file and line", err)
			}
		})
	}
}

func TestParseReportsAllFaultsAtOnce(t *testing.T) {
	_, err := Parse("f.toml", []byte("name = \"X\"\ncolour = 1\n[disk]\ntable = 3\nspeed = 2\n"))
	if got := strings.Count(err.Error(), "f.toml:"); got != 3 {
		t.Errorf("Parse names %d faults, want 3:\n%v", got, err)
	}
	_, err = Parse("f.toml", nil)
	for _, key := range []string{"name", "arch", "suite", "kernel.package", "disk.table", "console.devices"} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("Parse of nothing does not name %s:\n%v", key, err)
		}
	}
}

func TestMatch(t *testing.T) {
	m := Modules{
		Include: []string{"fs/overlayfs/*", "net/{bridge,8021q}/*", "drivers/**/e1000", "crypto/{a,b}_{x,y}",
			"sound/**"},
		Exclude: []string{"net/bridge/br_*"},
	}
	for path, want := range map[string]bool{
		"fs/overlayfs/overlay": true, "fs/overlayfs/deep/overlay": false, "net/bridge/bridge": true,
		"net/bridge/br_netfilter": false,
		"net/8021q/8021q":         true, "net/8021/8021q": false, "drivers/net/ethernet/intel/e1000/e1000": true,
		"drivers/e1000":   true,
		"drivers/e1000/x": false, "crypto/b_y": true, "crypto/c_y": false, "sound/a/b/c": true, "sounds/a": false,
		"": false,
	} {
		if got := m.Match(path); got != want {
			t.Errorf("Match(%q) = %v, want %v", path, got, want)
		}
	}
	unused := m.Unused([]string{"fs/overlayfs/overlay", "net/bridge/bridge", "crypto/a_x", "sound/x", "drivers/e1000"})
	if want := []string{"net/8021q/*", "crypto/b_x", "crypto/a_y", "crypto/b_y"}; !slices.Equal(unused, want) {
		t.Errorf("Unused = %v, want %v", unused, want)
	}
}

func TestPackagesOnce(t *testing.T) {
	b := Board{Kernel: Kernel{Package: "k"}, Userland: Userland{Packages: []string{"b", "a", "b"}},
		Qemu: Qemu{Package: "a"}}
	if got := b.Packages(); !slices.Equal(got, []string{"k", "b", "a"}) {
		t.Errorf("Packages = %v", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		text, err := files.ReadFile(name + ".toml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := Parse("f.toml", text); err != nil && err.Error() == "" {
			t.Error("an error without words")
		}
	})
}
