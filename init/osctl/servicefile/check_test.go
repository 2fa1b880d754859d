package servicefile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/mounts/testenv"
	"resinos/services/spec"
)

func commands() clitest.Main {
	return clitest.Commands(map[string]cli.Run{
		"check": Check, "show": Show, "mask": Mask, "unmask": Unmask, "rescan": Rescan,
	})
}

func TestCheck(t *testing.T) {
	path, root := clitest.PID1(t), clitest.Device(t)
	for name, content := range map[string]string{
		"bin/good.toml":   "command = [\"/usr/bin/tool\"]\nneeds = [\"netd\"]\n",
		"bin/bad.toml":    "comand = [\"/usr/bin/tool\"]\ntype = \"simpel\"\x1b\n",
		"bin/faults.toml": "comand = [\"/usr/bin/tool\"]\ntype = \"simpel\"\noom-score = 1\n",
		"bin/warn.toml":   "command = [\"/usr/bin/plain\"]\nneeds = [\"netf\"]\nwants = [\"quux\"]\n",
		"bin/lost.toml":   "command = [\"/nowhere/prog\"]\n",
		"bin/dir.toml":    "command = [\"/usr/bin\"]\n",
		"bin/link.toml":   "command = [\"/sbin/away\"]\n",
		"bin/sshd.toml":   "oom-score = -5\n",
		"usr/bin/tool":    "", "usr/bin/plain": "",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "usr/bin/tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"sbin": "usr/sbin", "usr/sbin/away": "/usr/bin/tool"} {
		if err := os.MkdirAll(filepath.Join(root, "usr/sbin"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, filepath.Join(root, from)); err != nil {
			t.Fatal(err)
		}
	}
	place := clitest.Place{Main: commands(), Root: root, Control: path}
	var all strings.Builder
	for _, line := range []string{
		"good", "bad", "faults", "warn", "lost", "dir", "link", "sshd", "missing", "good faults", "--json warn", "",
	} {
		args := []string{"check"}
		for _, word := range strings.Fields(line) {
			if !strings.HasPrefix(word, "-") {
				word = filepath.Join(root, "bin", word+".toml")
			}
			args = append(args, word)
		}
		all.WriteString(place.Call(t, args...))
	}
	// Off the device nobody answers and nothing of ours is there.
	place.Control += ".gone"
	all.WriteString(place.Call(t, "check", "--root", filepath.Join(root, "bin"), filepath.Join(root, "bin/good.toml")))
	testenv.Golden(t, "check.golden", all.String())
}

func TestWarningsOfSockets(t *testing.T) {
	web := spec.Spec{Name: "web", Start: spec.OnDemand, User: "www", Group: "5", Command: []string{"/a"}}
	web.Listen.Sockets = []spec.Socket{{Network: "tcp", Address: ":80"}}
	other := web
	other.Name = "other"
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := checker{root: root, device: true, others: []spec.Spec{web, other}, names: map[string]bool{}}
	var got []string
	for _, f := range c.warnings("web.toml", web, []byte("# x\nlisten = [\"tcp::80\"]\n")) {
		got = append(got, f.Key+": "+f.Text)
	}
	text := strings.Join(got, "\n")
	for _, want := range []string{"command: program /a: no such file", `user: "www" is not in /etc/passwd`,
		"listen: tcp::80 belongs to service other too"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d warnings:\n%s", len(got), text)
	}
}
