package disk

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	slotUUID = "9a3b0c5e-1111-4222-8333-444455556666"
	pci3     = "devices/pci0000:00/0000:00:03.0/virtio0/block/vda"
	pci4     = "devices/pci0000:00/0000:00:04.0/virtio1/block/vdb"
)

// fakeSysfs builds a sysfs with the given partitions: device path of the disk -> labels.
func fakeSysfs(t *testing.T, disks map[string][]string) string {
	t.Helper()
	root := t.TempDir()
	put := func(dir, name, text string) {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	class := filepath.Join(root, "class/block")
	if err := os.MkdirAll(class, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, labels := range disks {
		disk := filepath.Base(path)
		major := 254 + int(disk[len(disk)-1]-'a')
		put(path, "uevent", fmt.Sprintf("MAJOR=%d\nMINOR=0\nDEVNAME=%s\nDEVTYPE=disk\nDISKSEQ=1\n", major, disk))
		os.Symlink("../../"+path, filepath.Join(class, disk))
		for i, label := range labels {
			part := fmt.Sprintf("%s%d", disk, i+1)
			text := fmt.Sprintf("MAJOR=%d\nMINOR=%d\nDEVNAME=%s\nDEVTYPE=partition\nPARTN=%d\n", major, i+1, part, i+1)
			if label != "" {
				text += "PARTNAME=" + label + "\n"
			}
			if label == RootA {
				text += "PARTUUID=" + slotUUID + "\n"
			}
			put(path+"/"+part, "uevent", text)
			put(path+"/"+part, "start", fmt.Sprintf("%d\n", 8192*(i+1)))
			put(path+"/"+part, "size", "8192\n")
			os.Symlink("../../"+path+"/"+part, filepath.Join(class, part))
		}
	}
	os.Symlink("../../devices/gone", filepath.Join(class, "sdz")) // vanished between the listing and the read
	return root
}

var labels = []string{Boot, RootA, RootB, State, Data}

func TestReadTwoDisksWithSameLabels(t *testing.T) {
	all, err := Read(fakeSysfs(t, map[string][]string{pci4: labels, pci3: labels}))
	if err != nil || len(all) != 10 {
		t.Fatalf("Read found %d partitions, %v, want 10", len(all), err)
	}
	if got := all[3]; got.Device != "vda4" || got.Disk != "vda" || got.Label != State || got.Start != 16*MiB ||
		got.Size != 4*MiB || got.Path != pci3+"/vda4" || got.Major != 254 || got.Minor != 4 {
		t.Errorf("fourth partition is %+v", got)
	}
	if p, ok := OnDisk(all, "vdb", State); !ok || p.Device != "vdb4" {
		t.Errorf("OnDisk(vdb, state) = %q, %v", p.Device, ok)
	}
	if p, ok := OnDisk(all, "sda", State); ok {
		t.Errorf("OnDisk(sda, state) = %q, want none", p.Device)
	}
	if p, ok := ByDevice(all, 255, 2); !ok || p.Device != "vdb2" {
		t.Errorf("ByDevice(255, 2) = %q, %v", p.Device, ok)
	}
}

func TestOnDiskNeverTakesOtherDisk(t *testing.T) {
	all, err := Read(fakeSysfs(t, map[string][]string{pci3: {Boot, RootA, RootB}, pci4: labels}))
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := OnDisk(all, "vda", State); ok {
		t.Errorf("state of vda = %q, want none: vda has no such partition", p.Device)
	}
}

func TestOnDiskWithoutNamesGoesByNumber(t *testing.T) {
	all, err := Read(fakeSysfs(t, map[string][]string{pci3: {"", "", "", "", "", ""}}))
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := OnDisk(all, "vda", Data); !ok || p.Device != "vda6" {
		t.Errorf("data of an MBR disk = %q, %v, want vda6", p.Device, ok)
	}
	if p, ok := OnDisk(all, "vda", "other"); ok {
		t.Errorf("unknown label gave %q", p.Device)
	}
}

func TestChooseAmongClones(t *testing.T) {
	all, err := Read(fakeSysfs(t, map[string][]string{pci4: labels, pci3: labels}))
	if err != nil {
		t.Fatal(err)
	}
	same := ByUUID(all, strings.ToUpper(slotUUID))
	for _, tt := range []struct {
		hint DevicePath
		want string
	}{
		{nil, "vda2"},
		{DevicePath{"04.0"}, "vdb2"},
		{DevicePath{"1f.2"}, "vda2"},
		{DevicePath{"04.0", "00.0"}, "vda2"},
	} {
		got, warning, err := Choose(same, tt.hint)
		if err != nil || got.Device != tt.want {
			t.Errorf("Choose with hint %q = %q, %v, want %q", tt.hint, got.Device, err, tt.want)
		}
		if !strings.Contains(warning, "vda2, vdb2") {
			t.Errorf("warning %q does not name both", warning)
		}
	}
	if _, _, err := Choose(nil, nil); err == nil {
		t.Error("Choose among none succeeds")
	}
	if _, warning, _ := Choose(same[:1], nil); warning != "" {
		t.Errorf("one candidate gives the warning %q", warning)
	}
}

// loadOption builds an EFI_LOAD_OPTION for PciRoot(0)/Pci(d,f)... as OVMF writes it.
func loadOption(functions ...[2]byte) []byte {
	path := []byte{2, 1, 12, 0, 0xd0, 0x41, 0x03, 0x0a, 0, 0, 0, 0}
	for _, f := range functions {
		path = append(path, 1, 1, 6, 0, f[1], f[0])
	}
	path = append(path, 0x7f, 0xff, 4, 0)
	b := binary.LittleEndian.AppendUint32(nil, 1)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(path)))
	b = append(b, 'U', 0, 'E', 0, 0, 0)
	return append(b, path...)
}

func TestBootedFrom(t *testing.T) {
	dir := t.TempDir()
	if _, err := BootedFrom(dir); err == nil {
		t.Error("BootedFrom without variables succeeds")
	}
	os.WriteFile(filepath.Join(dir, "BootCurrent-"+efiGlobal), []byte{6, 0, 0, 0, 0x0a, 0}, 0o600)
	os.WriteFile(filepath.Join(dir, "Boot000A-"+efiGlobal), append([]byte{7, 0, 0, 0}, loadOption([2]byte{2, 1},
		[2]byte{0x1f, 2})...), 0o600)
	got, err := BootedFrom(dir)
	if err != nil || fmt.Sprint(got) != "[02.1 1f.2]" {
		t.Errorf("BootedFrom = %v, %v, want [02.1 1f.2]", got, err)
	}
}

func FuzzParseLoadOption(f *testing.F) {
	f.Add(loadOption([2]byte{3, 0}))
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		path, err := ParseLoadOption(b)
		if err != nil && path != nil {
			t.Errorf("both a path %v and an error %v", path, err)
		}
	})
}

func FuzzParseUevent(f *testing.F) {
	f.Add([]byte("MAJOR=254\nMINOR=2\nDEVNAME=vda2\nDEVTYPE=partition\nPARTN=2\nPARTNAME=resin-rootA\nPARTUUID=x\n"))
	f.Add([]byte("DEVTYPE=partition\nPARTN=-1\nDEVNAME=../x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, ok := ParseUevent(b); ok && (p.Device == "" || p.Number < 1) {
			t.Errorf("ParseUevent(%q) = %+v", b, p)
		}
	})
}

func TestBytesRoundTrip(t *testing.T) {
	for text, want := range map[string]Bytes{
		"40 MiB": 40 * MiB, "40MiB": 40 * MiB, "0": 0, "512 B": 512, "3 GiB": 3 * GiB, "1025": 1025,
		"40M": 40 * MiB, "64k": 64 * KiB, "64 K": 64 * KiB, "1g": GiB, "2T": 2 * TiB, "8388607T": 8388607 * TiB,
		"1B": 1,
	} {
		got, err := ParseBytes(text)
		if err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "MiB", "-1", "+1", "4 MB", "64MB", "4kB", "40Mi", "1b", "0x10", "1_0",
		"9999999 TiB", "8388608T", "99999999999999999999", "1.5 GiB"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("ParseBytes(%q) = %d, want an error", text, got)
		}
	}
	random := rand.New(rand.NewSource(1))
	for range 1000 {
		b := Bytes(random.Int63())
		if got, err := ParseBytes(b.String()); err != nil || got != b {
			t.Fatalf("%d is written %q and read back as %d, %v", b, b, got, err)
		}
	}
}
