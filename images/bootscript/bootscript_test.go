package bootscript

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"resinos/mounts/testenv"
)

func TestScriptsGolden(t *testing.T) {
	for name, s := range map[string]Script{
		"grub-production":   {Kind: Grub, Arch: "amd64", Variant: "production"},
		"grub-development":  {Kind: Grub, Arch: "amd64", Variant: "development"},
		"uboot-development": {Kind: UBoot, Arch: "arm64", Variant: "development"},
		"uboot-dtb":         {Kind: UBoot, Arch: "arm", Variant: "production", DeviceTree: "some-board.dtb"},
	} {
		t.Run(name, func(t *testing.T) {
			s.PartitionA, s.PartitionB, s.Consoles = 2, 3, []string{"tty0", "ttyS0,115200"}
			files, err := s.Render(1767225600)
			if err != nil {
				t.Fatal(err)
			}
			got := files["EFI/debian/grub.cfg"]
			if s.Kind == UBoot {
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
	for _, text := range []string{grubTemplate, ubootTemplate} {
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

func TestVariableBlocks(t *testing.T) {
	values := map[string]string{"slot": "B", "try": ""}
	for name, c := range map[string]struct {
		write func(map[string]string) ([]byte, error)
		size  int
	}{"grub": {GrubEnv, GrubEnvSize}, "u-boot": {UBootEnv, UBootEnvSize}} {
		block, err := c.write(values)
		if err != nil || len(block) != c.size {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(block), err, c.size)
		}
		if got := ParseEnv(block); len(got) != 2 || got["slot"] != "B" || got["try"] != "" {
			t.Errorf("%s: read back %v, want %v", name, got, values)
		}
		for _, bad := range []map[string]string{{"a b": ""}, {"": "x"}, {"a": "x\ny"}, {"a": strings.Repeat("x", 600)}} {
			if _, err := c.write(bad); err == nil {
				t.Errorf("%s: %v was written", name, bad)
			}
		}
	}
}

func FuzzParseEnv(f *testing.F) {
	for _, text := range []string{"", "slot=A\n\x00junk=1\n", "# GRUB Environment Block\nslot=B\n#####", "=\n==\nno equals\nslot=A"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		values := ParseEnv(block)
		for name := range values {
			if name == "" || strings.ContainsAny(name, "=\n\x00") {
				t.Errorf("name %q", name)
			}
		}
	})
}
