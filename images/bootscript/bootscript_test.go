package bootscript

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
	"resinos/mounts/disk"
	"resinos/mounts/testenv"
)

func TestScriptsGolden(t *testing.T) {
	for name, s := range map[string]Script{
		"grub-production":  {Kind: bootvars.Grub, Arch: "amd64", Variant: "production"},
		"grub-development": {Kind: bootvars.Grub, Arch: "amd64", Variant: "development"},
		"uboot-development": {Kind: bootvars.UBoot, Arch: "arm64", Variant: "development",
			Prompt: "wdt dev watchdog@1\nwdt start 60000\n"},
		"uboot-no-prompt": {Kind: bootvars.UBoot, Arch: "arm64", Variant: "development"},
		"uboot-dtb": {Kind: bootvars.UBoot, Arch: "arm", Variant: "production", DeviceTree: "some-board.dtb",
			Prompt: "wdt start 60000"},
	} {
		t.Run(name, func(t *testing.T) {
			s.Memory = 192 * disk.MiB
			s.PartitionA, s.PartitionB, s.Consoles = 2, 3, []string{"tty0", "ttyS0,115200"}
			files, err := s.Render(1767225600)
			if err != nil {
				t.Fatal(err)
			}
			if v, err := s.Kind.Parse(files[s.Kind.File()]); err != nil || v.Slot != slot.A {
				t.Errorf("first variables: %+v, %v", v, err)
			}
			got := files["EFI/debian/grub.cfg"]
			if s.Kind == bootvars.UBoot {
				got = files["boot.scr"][72:]
			}
			testenv.Golden(t, name+".golden", string(got))
		})
	}
}

func TestUnknownBootloader(t *testing.T) {
	if _, err := (Script{Kind: "lilo"}).Render(0); err == nil || !strings.Contains(err.Error(), "lilo") {
		t.Errorf("Render for an unknown bootloader = %v", err)
	}
}

func TestScriptsDoNotWait(t *testing.T) {
	uboot, err := Script{Variant: "production", Prompt: "sleep 9"}.fill(ubootTemplate)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{grubTemplate, uboot} {
		head, _, _ := strings.Cut(text, "neither slot")
		for _, word := range []string{"timeout", "menuentry", "sleep", "setexpr"} {
			for line := range strings.Lines(head) {
				if strings.Contains(line, word) && !strings.HasPrefix(strings.TrimSpace(line), "#") {
					t.Errorf("script says %q: %s", word, line)
				}
			}
		}
	}
}

// TestNoApostrophe: U-Boot's shell (hush) takes one for the beginning of a quotation even between double quotes.
func TestNoApostrophe(t *testing.T) {
	for line := range strings.Lines(ubootTemplate) {
		if strings.Contains(line, "'") && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			t.Errorf("an apostrophe in %s", line)
		}
	}
}

func TestUBootImageSums(t *testing.T) {
	image := wrap("echo hi\n", "arm64", 1767225600)
	header := bytes.Clone(image[:64])
	want := binary.BigEndian.Uint32(header[4:])
	binary.BigEndian.PutUint32(header[4:], 0)
	if got := crc32.ChecksumIEEE(header); got != want {
		t.Errorf("header sum = %x, want %x", got, want)
	}
	if got := crc32.ChecksumIEEE(image[64:]); got != binary.BigEndian.Uint32(image[24:]) {
		t.Errorf("data sum = %x", got)
	}
	if string(image[72:]) != "echo hi\n" {
		t.Errorf("script = %q", image[72:])
	}
}
