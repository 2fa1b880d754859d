package servicefile

import (
	"resinos/services/spec/definition"

	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/mounts/testenv"
	"resinos/services/pid1"
)

func TestGolden(t *testing.T) {
	place := clitest.Place{Main: commands(), Control: clitest.PID1(t)}
	place.Golden(t, "define", "show netd", "show --json netd", "show", "rescan", "rescan -n", "rescan --json",
		"mask -n sshd", "unmask -n sshd", "mask nobody", "mask")
}

// TestShowBadFile: a file with a fault changes nothing, and show says so instead of counting its keys.
func TestShowBadFile(t *testing.T) {
	s := &session{&cli.Session{Env: cli.Env{Root: clitest.Device(t)}}}
	path := filepath.Join(s.Root, "etc/resinos/services/netd.toml")
	if err := os.WriteFile(path, []byte("oom-score = -1000\ntpye = \"simple\"\nafter = [5]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	all, _ := definition.Load(layers(s.Root)...)
	d := shown{Shown: pid1.Shown{Status: clitest.Services()[2], Spec: all[0]}}
	s.compare(&d)
	testenv.Golden(t, "show_bad.golden", definitionText(d))
	if d.Unread || len(d.Files) != 2 || len(d.Files[1].Keys) != 0 {
		t.Errorf("compare = %+v", d.Files)
	}
	if err := os.WriteFile(path, []byte("oom-score = -1000\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s.compare(&d); !d.Unread || len(d.Files[1].Faults) != 0 {
		t.Errorf("a file that was mended and not yet read: %+v", d)
	}
	if err := os.Mkdir(filepath.Join(s.Root, "etc/resinos/services/sshd.toml"), 0o755); err != nil {
		t.Fatal(err)
	}
	d.Status.Name = "sshd"
	s.compare(&d)
	if text := definitionText(d); !strings.Contains(text, "sshd.toml: is no regular file") {
		t.Errorf("a directory in its place: %s", text)
	}
}
