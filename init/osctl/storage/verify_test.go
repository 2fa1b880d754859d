package storage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/mounts/fingerprint"
	"resinos/mounts/testenv"
)

func TestVerify(t *testing.T) {
	root := t.TempDir()
	put := func(name, content string) {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	list := func(dir string, files map[string]string) {
		var lines []fingerprint.Line
		for name, content := range files {
			put(filepath.Join(dir, name), content)
			sum, err := fingerprint.Of(strings.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, fingerprint.Line{Path: name, Sum: sum})
		}
		put(filepath.Join(dir, fingerprint.Name), string(fingerprint.Print(lines)))
	}
	list("mnt/boot", map[string]string{"boot.scr": "script", "EFI/BOOT/BOOTX64.EFI": "loader"})
	put("mnt/boot/config.json", "{}")
	list("", map[string]string{"usr/bin/tool": "tool", "etc/hosts": "hosts"})
	place := clitest.Place{Main: clitest.Commands(map[string]cli.Run{"verify": Verify}), Root: root}
	var all strings.Builder
	say := func(args ...string) {
		all.WriteString(place.Call(t, append([]string{"verify"}, args...)...))
	}
	// The boot partition of this root is a directory of it, and therefore extra here; on a device it is another file
	// system.
	say("boot")
	say("nobody")
	put("mnt/boot/boot.scr", "another")
	put("mnt/boot/notes.txt", "of the owner")
	if err := os.Remove(filepath.Join(root, "usr/bin/tool")); err != nil {
		t.Fatal(err)
	}
	put("etc/\x1b[2J", "stranger")
	say()
	say("--json", "boot")
	if err := os.Remove(filepath.Join(root, "mnt/boot", fingerprint.Name)); err != nil {
		t.Fatal(err)
	}
	say("boot")
	testenv.Golden(t, "verify.golden", all.String())
}
