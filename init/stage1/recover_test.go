package stage1

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
	"resinos/mounts/fat"
	"resinos/mounts/fat/fattest"
)

// writeSlot writes the files of a slot, and a manifest of them.
func writeSlot(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	m := slot.Manifest{Format: slot.ManifestFormat}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(content))
		m.Files = append(m.Files, slot.File{Name: name, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])})
	}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, slot.ManifestFile), text, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestWhole(t *testing.T) {
	files := map[string]string{slot.Kernel: "kernel", slot.Initramfs: "early", slot.Root: "root"}
	if err := whole(writeSlot(t, files)); err != nil {
		t.Errorf("whole = %v", err)
	}
	for name := range files {
		for what, spoil := range map[string]func(string) error{
			"not what was installed": func(file string) error { return os.WriteFile(file, []byte("damage"), 0o644) },
			"no such file":           os.Remove,
		} {
			dir := writeSlot(t, files)
			if err := spoil(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			err := whole(dir)
			if name == slot.Kernel && what == "not what was installed" {
				what = "vmlinuz is not" // of the same size
			}
			if err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("%s: whole = %v, want %q", name, err, what)
			}
		}
	}
	if err := whole(t.TempDir()); err == nil {
		t.Error("an empty slot is whole")
	}
	if err := whole(writeSlot(t, map[string]string{slot.Kernel: "kernel"})); err == nil ||
		!strings.Contains(err.Error(), "does not list") {
		t.Errorf("a slot without a root: %v", err)
	}
}

// TestLeaveRoot: the bootloader finds the other slot in the variables, and of the partition one sector has changed.
func TestLeaveRoot(t *testing.T) {
	for _, loader := range bootvars.Bootloaders() {
		text, err := loader.Encode(bootvars.Variables{Slot: slot.B, Others: map[string]string{"later": "x"}})
		if err != nil {
			t.Fatal(err)
		}
		file := fattest.New(t, 40, "32")
		fattest.Copy(t, file, "config.json", "{}")
		fattest.Copy(t, file, loader.File(), string(text))
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		disk, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer disk.Close()
		if err := leaveRoot(disk, slot.B); err != nil {
			t.Fatalf("%s: %v", loader, err)
		}
		files, err := fat.Open(disk)
		if err != nil {
			t.Fatal(err)
		}
		now, err := files.Read(loader.File())
		if err != nil {
			t.Fatal(err)
		}
		v, err := loader.Parse(now)
		if err != nil || v.Slot != slot.A || v.Try != slot.B || v.Tries != bootvars.NoTries ||
			v.Fault != bootvars.RootFault || v.Others["later"] != "x" {
			t.Errorf("%s: variables = %+v, %v", loader, v, err)
		}
		booted := v.Boot(bootvars.Firmware{Writes: true, Loads: map[slot.Name]bool{slot.A: true, slot.B: true}})
		if booted.Slot != slot.A || booted.Trial || !booted.Update {
			t.Errorf("%s: the boot script does %+v", loader, booted)
		}
		after, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var changed []int
		for at := 0; at < len(before); at += 512 {
			if string(before[at:at+512]) != string(after[at:at+512]) {
				changed = append(changed, at)
			}
		}
		if len(changed) != 1 {
			t.Errorf("%s: sectors at %v have changed, want one", loader, changed)
		}
	}
}

func TestLeaveRootRefuses(t *testing.T) {
	if err := leaveRoot(mustOpen(t, fattest.New(t, 1, "12")), slot.A); err == nil {
		t.Error("a partition without variables is no fault")
	}
	short := fattest.New(t, 1, "12")
	fattest.Copy(t, short, "grubenv", "short")
	if err := leaveRoot(mustOpen(t, short), slot.A); err == nil || !strings.Contains(err.Error(), "form") {
		t.Errorf("a damaged file: %v", err)
	}
}

func mustOpen(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
