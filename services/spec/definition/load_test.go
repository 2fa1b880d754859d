package definition

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"resinos/mounts/testenv"
)

// layers makes a shipped and an owner's layer of one service called a.
func layers(shipped, owner string) []Layer {
	fsys := fstest.MapFS{}
	if shipped != "" {
		fsys["usr/a.toml"] = &fstest.MapFile{Data: []byte(shipped)}
	}
	if owner != "" {
		fsys["etc/a.toml"] = &fstest.MapFile{Data: []byte(owner)}
	}
	return []Layer{{FS: fsys, Dir: "usr", Path: "/usr"}, {FS: fsys, Dir: "etc", Path: "/etc"}}
}

// TestOnly: one service is read from its own files alone, and its owner's file counts.
func TestOnly(t *testing.T) {
	fsys := fstest.MapFS{
		"usr/a.toml": {Data: []byte(command1)}, "usr/b.toml": {Data: []byte("broken")},
		"etc/a.toml": {Data: []byte("masked = true\n")}, "etc/c.toml": {Data: []byte(command1)},
	}
	for file, want := range map[string]string{"a.toml": "a masked", "c.toml": "c", "d.toml": ""} {
		specs, errs := Load(Layer{FS: fsys, Dir: "usr", Only: file}, Layer{FS: fsys, Dir: "etc", Only: file})
		got := ""
		for _, s := range specs {
			if got += s.Name; s.Masked {
				got += " masked"
			}
		}
		if got != want || len(errs) != 0 {
			t.Errorf("%s: %q, %v, want %q", file, got, errs, want)
		}
	}
}

const command1 = "command = [\"/bin/a\"]\n"

func TestLayers(t *testing.T) {
	for _, c := range []struct {
		name, shipped, owner string
		want                 string // a line of the rendered service; empty when there is none
		not                  string // no part of it
		faults               []string
	}{
		{name: "shipped alone", shipped: command1, want: `command = ["/bin/a"]`},
		{name: "owner alone", owner: command1, want: "# from /etc/a.toml"},
		{name: "key by key", shipped: command1 + "oom-score = 5\nnice = 1\n", owner: "nice = 2\n",
			want: "oom-score = 5"},
		{name: "the later wins", shipped: command1 + "nice = 1\n", owner: "nice = 2\n", want: "nice = 2"},
		{name: "both are named", shipped: command1, owner: "nice = 2\n",
			want: "# from /usr/a.toml\n# from /etc/a.toml"},
		{name: "lists are replaced", shipped: command1 + `needs = ["x", "y"]`, owner: `needs = ["z"]`,
			want: `needs = ["z"]`},
		{name: "lists are emptied", shipped: command1 + `needs = ["x"]`, owner: "needs = []",
			want: "# from /etc/a.toml", not: "needs"},
		{name: "variables one by one", shipped: command1 + "[environment]\nA = \"1\"\nB = \"1\"\n",
			owner: "[environment]\nB = \"2\"\nC = \"2\"\n",
			want:  "A = \"1\"\nB = \"2\"\nC = \"2\""},
		{name: "limits one by one", shipped: command1 + "[rlimits]\nnofile = 1\ncore = 1\ncpu = 1\n",
			owner: "[rlimits]\nnofile = 2\ncpu = \"\"\n",
			want:  "core = \"1\"\nnofile = \"2\"\n", not: "cpu"},
		{name: "conditions kind by kind", shipped: command1 + "condition-path = [\"/x\"]\ncondition-board = [\"b\"]\n",
			owner: `condition-path = ["/y"]`,
			want:  "condition-path = [\"/y\"]\ncondition-board = [\"b\"]"},
		{name: "defaults of the whole", shipped: command1, owner: `type = "oneshot"`, want: `restart = "never"`},
		{name: "what was said stays said", shipped: command1 + `restart = "on-failure"`, owner: `type = "oneshot"`,
			want: `restart = "on-failure"`},
		{name: "mask", shipped: command1, owner: "masked = true", want: "masked = true"},
		{name: "unmask", shipped: command1 + "masked = true", owner: "masked = false", want: "command", not: "masked"},
		{name: "off by the empty value", shipped: command1 + "health-command = [\"/bin/h\"]\nhealth-every = \"1s\"\n",
			owner: "health-command = []",
			want:  "command", not: "health"},
		{name: "another probe", shipped: command1 + "ready-command = [\"/bin/r\"]\n",
			owner: "ready-command = []\nready-port = \"unix:/run/x\"", want: `ready-port = "unix:/run/x"`,
			not: "ready-command"},
		{name: "bad owner", shipped: command1 + "nice = 1\n", owner: "\nnice = 99\nx = 1", want: "nice = 1",
			not: "/etc",
			faults: []string{`/etc/a.toml:2: key "nice": 99 is out of range`, `/etc/a.toml:3: key "x"`,
				"/etc/a.toml: is not used, /usr/a.toml stays in force"}},
		{name: "no TOML at all", shipped: command1, owner: "[", want: "# from /usr/a.toml",
			faults: []string{"/etc/a.toml:1:", "stays in force"}},
		{name: "bad together", shipped: command1 + "ready-port = \"unix:/run/x\"\n", owner: "type = \"notify\"",
			want:   `type = "simple"`,
			faults: []string{`/usr/a.toml:2: key "ready-port": does not go with type "notify"`}},
		{name: "bad shipped", shipped: "x = 1", owner: command1, want: "# from /etc/a.toml",
			faults: []string{"/usr/a.toml:1:"}},
		{name: "both bad", shipped: "x = 1", owner: "y = 1", faults: []string{"/usr/a.toml:1:", "/etc/a.toml:1:"}},
		{name: "override of nothing", owner: "nice = 1", faults: []string{`/etc/a.toml: key "command" is missing`}},
		{name: "mask of nothing", owner: "masked = true",
			faults: []string{"/etc/a.toml:1: key \"masked\": there is no service a to mask"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			specs, errs := Load(layers(c.shipped, c.owner)...)
			var got string
			for _, s := range specs {
				got += Render(s)
				roundTrip(t, s)
			}
			if len(specs) > 1 || !strings.Contains(got, c.want) || (got == "") != (c.want == "") || c.not != "" &&
				strings.Contains(got, c.not) {
				t.Errorf("Load gives\n%swant %q and not %q", got, c.want, c.not)
			}
			text := fmt.Sprint(errors.Join(errs...))
			for _, want := range c.faults {
				if !strings.Contains(text, want) {
					t.Errorf("faults lack %q:\n%s", want, text)
				}
			}
			if (len(errs) > 0) != (len(c.faults) > 0) {
				t.Errorf("faults %v", errs)
			}
		})
	}
}

// TestTrialLeavesNothing: a file that is refused halfway changes neither maps nor lists below.
func TestTrialLeavesNothing(t *testing.T) {
	shipped := command1 + "condition-path = [\"/x\"]\n[environment]\nA = \"1\"\n[rlimits]\ncore = 1\n"
	alone, _ := Load(layers(shipped, "")...)
	under, errs := Load(layers(shipped,
		"condition-board = [\"b\"]\nx = 1\n[environment]\nA = \"2\"\n[rlimits]\ncore = 2\n")...)
	if len(errs) != 1 || Render(alone[0]) != Render(under[0]) {
		t.Errorf("%v; a refused file leaves\n%sof\n%s", errs, Render(under[0]), Render(alone[0]))
	}
}

func TestThreeLayers(t *testing.T) {
	fsys := fstest.MapFS{"1/a.toml": {Data: []byte(command1)}, "2/a.toml": {Data: []byte("nice = 99")},
		"3/a.toml": {Data: []byte("nice = 3")}}
	specs, errs := Load(Layer{FS: fsys, Dir: "1"}, Layer{FS: fsys, Dir: "2"}, Layer{FS: fsys, Dir: "3"})
	if len(errs) != 1 || len(specs) != 1 || specs[0].Confinement.Nice != 3 ||
		strings.Join(specs[0].Files, " ") != "1/a.toml 3/a.toml" {
		t.Errorf("Load gives %+v, %v", specs, errs)
	}
}

func TestCheck(t *testing.T) {
	below := layers(command1+"nice = 1\n", "nice = 2\n")
	below[0].FS.(fstest.MapFS)["usr/b.toml"] = &fstest.MapFile{Data: []byte(command1)}
	for _, c := range []struct {
		name, file, data string
		want             string // Nice of the result, the warnings, or the faults
	}{
		{"an override to be", "a.toml", "nice = 3", "nice 3"},
		{"the owner's own", "/etc/a.toml", "nice = 3", "nice 3"},
		{"is not on top of itself", "/etc/a.toml", "oom-score = 3", "nice 1"},
		{"the shipped one stands alone", "/usr/a.toml", "nice = 3",
			`/usr/a.toml: key "command" is missing (add command = ["/usr/bin/program", "argument"])`},
		{"a new one", "/home/c.toml", command1, "nice 0"},
		{"a bad one", "/home/c.toml", "x = 1",
			`/home/c.toml: key "command" is missing (add command = ["/usr/bin/program", "argument"])` + "\n" +
				`/home/c.toml:1: key "x": no such key (docs/services.md lists the keys)`},
		{"names", "a.toml", "needs = [\"b\", \"c\"]\nconflicts = [\"d\"]",
			"nice 1\n" + `a.toml:1: key "needs": there is no service c now (it will never start)` + "\n" +
				`a.toml:2: key "conflicts": there is no service d now (nothing is stopped)`},
		{"nothing new", "a.toml", "nice = 1", "nice 1\na.toml: changes nothing (remove it, or change what it says)"},
		{"odd pairs", "a.toml", "restart = \"never\"\ngive-up-after = 2\nhealth-command = [\"/h\"]\n" +
			"health-timeout = \"1m\"\nlisten = [\"tcp::1\"]\nready-port = \"tcp::1\"",
			"nice 1\n" + `a.toml:2: key "give-up-after": has no effect with restart "never" (remove one of them)` +
				"\n" +
				`a.toml:4: key "health-timeout": is longer than health-every 30s ` +
				`(a run that hangs holds up the next ones)` + "\n" +
				`a.toml:6: key "ready-port": is one of its listen sockets, which always take connections ` +
				`(use ready-command)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, warnings, err := Check(c.file, []byte(c.data), below...)
			got := fmt.Sprint("nice ", s.Confinement.Nice)
			if len(warnings) > 0 {
				got += "\n" + warnings.Error()
			}
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("Check(%s) gives\n%s\nwant\n%s", c.file, got, c.want)
			}
		})
	}
	if s, _, err := Check("x.toml", []byte(command1)); err != nil || s.Name != "x" {
		t.Errorf("Check without layers gives %+v, %v", s, err)
	}
}

// TestTenThousand is a directory that nobody has, with a bad file in ten: it loads.
func TestTenThousand(t *testing.T) {
	fsys := fstest.MapFS{}
	for i := range 10000 {
		data := fmt.Sprintf("command = [\"/bin/s%d\"]\nneeds = [\"s%05d\"]\nmemory-max = \"1G\"\n", i, max(0, i-1))
		if i%10 == 0 {
			data += "bad = 1\n"
		}
		fsys[fmt.Sprintf("usr/s%05d.toml", i)] = &fstest.MapFile{Data: []byte(data)}
		fsys[fmt.Sprintf("etc/s%05d.toml", i)] = &fstest.MapFile{Data: []byte("nice = 1\n")}
	}
	start := time.Now()
	specs, errs := Load(Layer{FS: fsys, Dir: "usr"}, Layer{FS: fsys, Dir: "etc"})
	took := time.Since(start)
	if len(specs) != 9000 || len(errs) != 2000 { // a bad one, and an owner's file on top of nothing
		t.Errorf("Load gives %d services and %d faults", len(specs), len(errs))
	}
	testenv.AtMost(t, "20,000 files", took, 30*time.Second)
}
