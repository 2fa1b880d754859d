package servicefile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
)

func TestSetMasked(t *testing.T) {
	for _, test := range []struct {
		name, file      string
		masked, shipped bool
		want            string // "!" is a refusal
	}{
		{"mask nothing", "", true, false, "masked = true\n"},
		{"mask above all", "# mine\noom-score = 1\n\n[environment]\nA = \"b\"\n", true, false,
			"masked = true\n# mine\noom-score = 1\n\n[environment]\nA = \"b\"\n"},
		{"mask masked", "  masked=true\r\n", true, false, "  masked=true\r\n"},
		{"mask unmasked", "a = 1\nmasked = false # why\nb = 2", true, false, "a = 1\nmasked = true # why\nb = 2"},
		{"mask what the image masks", "a = 1\n", true, true, "a = 1\n"},
		{"unmask", "a = 1\r\nmasked = true\r\nb = 2\r\n", false, false, "a = 1\r\nb = 2\r\n"},
		{"unmask keeps a comment", "masked = true # not now\n", false, false, "# not now\n"},
		{"unmask the only line", "masked = true", false, false, ""},
		{"unmask a quoted key", "\"masked\" = true\na = 1\n", false, false, "a = 1\n"},
		{"unmask what is not masked", "a = 1", false, false, "a = 1"},
		{"unmask what the image masks", "a = 1\n", false, true, "masked = false\na = 1\n"},
		{"unmask over the image", "masked = true\n", false, true, "masked = false\n"},
		{"a variable of that name", "[environment]\nmasked = \"x\"\n", true, false,
			"masked = true\n[environment]\nmasked = \"x\"\n"},
		{"inside a string", "description = '''\nmasked = true\n'''\n", true, false, "!"},
		{"no TOML", "a = \n", true, false, "!"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := setMasked([]byte(test.file), test.masked, test.shipped)
			if err != nil {
				got = []byte("!")
			}
			if string(got) != test.want {
				t.Errorf("setMasked(%q) = %q, %v, want %q", test.file, got, err, test.want)
			}
		})
	}
}

func FuzzSetMasked(f *testing.F) {
	f.Add("a = 1\nmasked = false\n[environment]\nA = \"masked = true\"\n", true)
	f.Add("\"masked\" = true # x", false)
	f.Fuzz(func(t *testing.T, file string, masked bool) {
		once, err := setMasked([]byte(file), masked, false)
		if err != nil {
			return
		}
		if isMasked(once) != masked {
			t.Errorf("setMasked(%q, %v) = %q", file, masked, once)
		}
		twice, err := setMasked(once, masked, false)
		if err != nil || string(twice) != string(once) {
			t.Errorf("setMasked twice: %q, then %q, %v", once, twice, err)
		}
	})
}

func TestMaskWritesTheOwnersFile(t *testing.T) {
	path, root := clitest.PID1(t), clitest.Device(t)
	file := filepath.Join(root, cli.OwnerServices, "netd.toml")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	place := clitest.Place{Main: commands(), Root: root, Control: path}
	run := func(want string, args ...string) {
		t.Helper()
		if got := place.Call(t, args...); !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	run("netd is down", "mask", "netd")
	if got, _ := os.ReadFile(file); string(got) != "masked = true\n"+string(before) {
		t.Errorf("masked file: %q", got)
	}
	run("osctl start netd", "unmask", "netd")
	if got, _ := os.ReadFile(file); string(got) != string(before) {
		t.Errorf("unmasked file: %q, want %q", got, before)
	}
	run("exit 0", "mask", "--no-stop", "sshd")
	run("exit 0", "unmask", "sshd")
	if _, err := os.Stat(filepath.Join(root, cli.OwnerServices, "sshd.toml")); !os.IsNotExist(err) {
		t.Errorf("an empty file is left: %v", err)
	}
	if err := os.WriteFile(file, []byte("odd ="), 0o644); err != nil {
		t.Fatal(err)
	}
	run("try: osctl check ROOT/etc/resinos/services/netd.toml", "mask", "netd")
}
