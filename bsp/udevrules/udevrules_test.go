package udevrules

import (
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

var someNames = Names{Users: map[string]int{"root": 0, "app": 1000}, Groups: map[string]int{"dialout": 20}}

// tree is a Sys: attributes and links by path.
type tree map[string]string

func (t tree) Attribute(device, name string) (string, bool) {
	value, found := t[device+" "+name]
	return value, found
}
func (t tree) Link(device, name string) string { return t[device+" @"+name] }
func (t tree) Above(device string) string {
	if up := path.Dir(device); up != "/devices" && up != "/" {
		return up
	}
	return ""
}

// modem is a USB modem's serial line, as the kernel shows it.
var modem = tree{
	"/devices/usb1 idVendor":                 "1d6b",
	"/devices/usb1 @subsystem":               "usb",
	"/devices/usb1/1-1 idVendor":             "12d1",
	"/devices/usb1/1-1 idProduct":            "15c1",
	"/devices/usb1/1-1 serial":               "A/7 b$",
	"/devices/usb1/1-1 power/control":        "auto",
	"/devices/usb1/1-1 @subsystem":           "usb",
	"/devices/usb1/1-1 @driver":              "usb",
	"/devices/usb1/1-1/ttyUSB0 @subsystem":   "tty",
	"/devices/usb1/1-1/ttyUSB0 dev":          "188:0",
	"/devices/usb1/1-1/ttyUSB0 @driver":      "option1",
	"/devices/usb1/1-1/ttyUSB0 port_number":  "0",
	"/devices/usb1/1-1/ttyUSB0 latency_time": "16",
}

func line(action string) Device {
	return Device{Action: action, Path: "/devices/usb1/1-1/ttyUSB0", Node: "ttyUSB0",
		Env: map[string]string{"MAJOR": "188", "MINOR": "0", "DEVTYPE": "usb-serial"}}
}

// TestDecide: each rule alone, for the modem's serial line. What udev does with a rule is in its manual, udev(7).
func TestDecide(t *testing.T) {
	for rule, want := range map[string]string{
		`KERNEL=="ttyUSB*", MODE="0660", GROUP="dialout"`:                           "mode 0660, group 20",
		`KERNEL=="ttyUSB[0-3]" SUBSYSTEM=="tty" OWNER="app"`:                        "owner 1000",
		`KERNEL=="ttyACM*|ttyUSB*", SYMLINK+="modem"`:                               "link modem",
		`KERNEL=="ttyACM*", SYMLINK+="modem"`:                                       "nothing",
		`KERNEL!="ttyACM*", SYMLINK="a b"`:                                          "link a, link b",
		`ATTRS{idVendor}=="12d1", ATTRS{idProduct}=="15c1", SYMLINK+="modem%n"`:     "link modem0",
		`ATTRS{idVendor}=="12d1", SYMLINK+="by/$attr{serial}"`:                      "link by/A_7_b_",
		`ATTRS{idVendor}=="1d6b", ATTRS{idProduct}=="15c1", SYMLINK+="two-parents"`: "nothing",
		`SUBSYSTEMS=="usb", KERNELS=="1-*", DRIVERS=="usb", SYMLINK+="at-$id"`:      "link at-1-1",
		`ATTR{port_number}=="0", ATTR{latency_time}="1"`:                            `write "1" to latency_time`,
		`ATTR{missing}!="0", SYMLINK+="never"`:                                      "nothing",
		`ENV{DEVTYPE}=="usb-serial", SYMLINK+="%E{DEVTYPE}-%k-$$-%M:%m"`:            "link usb-serial-ttyUSB0-_-188:0",
		`ENV{NONE}=="", ACTION=="add", MODE="0600"`:                                 "mode 0600",
		`ACTION=="change", MODE="0600"`:                                             "nothing",
		`DEVPATH=="/devices/usb1/*", MODE="0600"`:                                   "mode 0600",
		`DEVPATH=="/devices/usb2/*", MODE="0600"`:                                   "nothing",
		"ENV{MINE}=\"yes\"\nENV{MINE}==\"yes\", MODE=\"0611\"":                      "mode 0611",
		"SYMLINK+=\"one\"\nSYMLINK+=\"two\"\nSYMLINK=\"three\"":                     "link three",
		"# comment\n\nKERNEL==\"ttyUSB0\", \\\n  MODE=\"0604\"":                     "mode 0604",
		"GOTO=\"end\"\nMODE=\"0777\"\nLABEL=\"end\"\nGROUP=\"dialout\"":             "group 20",
		"ACTION!=\"add\", GOTO=\"end\"\nMODE=\"0640\"\nLABEL=\"end\"":               "mode 0640",
		`KERNEL=="ttyUSB[!0]", MODE="0777"`:                                         "nothing",
		`SUBSYSTEM=="tty", KERNEL=="ttyUSB0", SYMLINK+="../../etc/passwd"`:          "fault: SYMLINK",
		`SYMLINK+="$attr{idVendor}"`:                                                "nothing",
		`ATTRS{serial}=="A/*", SYMLINK+="../$attr{serial}"`:                         "fault: SYMLINK",
		`KERNEL=="ttyUSB0", MODE="$number"`:                                         "mode 0000",
		`KERNEL=="ttyUSB0", MODE="%k"`:                                              "fault: MODE",
		`KERNEL==" ttyUSB0", MODE="0777"`:                                           "nothing",
		`KERNEL=="ttyUSB0", SYMLINK+="sp\"ace"`:                                     "link sp_ace",
	} {
		rules, err := Parse(map[string]string{"r": rule}, someNames)
		if err != nil {
			t.Errorf("%s: %v", rule, err)
			continue
		}
		e, err := Decide(rules, line("add"), modem)
		got := e.String()
		if err != nil {
			got = "fault: " + strings.Fields(strings.SplitN(err.Error(), ": ", 2)[1])[0]
		}
		if got != want {
			t.Errorf("%s\n  gives %s (%v), want %s", rule, got, err, want)
		}
	}
}

func TestParseFaults(t *testing.T) {
	for rule, want := range map[string]string{
		`KERNEL=="sda", RUN+="/bin/sh"`:        "r:1: RUN is not supported: no rule starts a program",
		`KERNEL=="sda", NAME="eth7"`:           "r:1: NAME is not supported",
		`KERNEL=="sda"`:                        "assigns nothing",
		`KERNEL="sda", MODE="0660"`:            `KERNEL can be compared only: write KERNEL=="sda"`,
		`KERNEL=="sda", MODE=="0660"`:          `MODE can be assigned only: write MODE="0660"`,
		`KERNEL=="sda", MODE="4755"`:           "at most 0777",
		`KERNEL=="sda", GROUP="plugdev"`:       `no group "plugdev"`,
		`KERNEL=="sda", COLOUR="red"`:          "COLOUR is no key of rules",
		`KERNEL=="sd[a", MODE="0660"`:          "no pattern",
		`KERNEL=="sda, MODE="0660"`:            "want KEY==",
		`KERNEL=="sda" MODE 0660`:              "want an operator",
		`KERNEL=="sda", MODE="0660`:            "no closing double quote",
		`ATTR=="x", MODE="0660"`:               "want ATTR{name}",
		`KERNEL{x}=="x", MODE="0660"`:          "want no braces",
		`ATTR{../../x}="1"`:                    "below the device",
		`ATTR{/etc/x}="1"`:                     "below the device",
		`KERNEL=="sda", SYMLINK+="%c"`:         "no substitution here",
		`KERNEL=="sda", SYMLINK+="$attr{"`:     "want $attr{name}",
		`KERNEL=="sda", MODE+="0660"`:          "write =",
		`KERNEL=="sda", GOTO="nowhere"`:        `no LABEL="nowhere" below`,
		"\n\nkernel==\"x\"":                    "r:3: want KEY",
		strings.Repeat("#", mostText+1):        "longer than",
		strings.Repeat("MODE=\"1\"\n", 1001):   "more than 1000 rules",
		"MODE=\"9\"\nOWNER=\"x\"\nGROUP=\"y\"": "r:3: GROUP", // all faults at once
	} {
		rules, err := Parse(map[string]string{"r": rule, "good": `MODE="0600"`}, someNames)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", short(rule), err, want)
		}
		if len(rules) != 1 || rules[0].file != "good" {
			t.Errorf("%s: the rules are %+v, want those of the good file", short(rule), rules)
		}
	}
}

// place makes a sysfs and a /dev with nodes below a directory.
func place(t *testing.T) *Keeper {
	t.Helper()
	testenv.NeedRoot(t, "device nodes")
	dir := t.TempDir()
	k := &Keeper{Sys: filepath.Join(dir, "sys"), Dev: filepath.Join(dir, "dev"), Record: filepath.Join(dir, "record"),
		Log: slog.New(slog.DiscardHandler)}
	must(t, os.MkdirAll(filepath.Join(k.Sys, "class/tty"), 0o755), os.MkdirAll(k.Dev, 0o755))
	for i, name := range []string{"ttyUSB0", "ttyUSB1"} {
		device := "/devices/usb1/" + name
		real := filepath.Join(k.Sys, device)
		must(t, os.MkdirAll(real, 0o755), os.Symlink(real, filepath.Join(k.Sys, "class/tty", name)),
			os.Symlink("../../../class/tty", filepath.Join(real, "subsystem")),
			os.WriteFile(filepath.Join(real, "uevent"), []byte("MAJOR=188\nMINOR=0\nDEVNAME="+name+"\n"), 0o644),
			os.WriteFile(filepath.Join(real, "latency"), []byte("16\n"), 0o644))
		err := unix.Mknod(filepath.Join(k.Dev, name), unix.S_IFCHR|0o600, int(unix.Mkdev(188, uint32(i))))
		if err != nil {
			testenv.Lacking(t, "a file system that takes device nodes: %v", err)
		}
	}
	return k
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func (k *Keeper) set(t *testing.T, text string) {
	t.Helper()
	rules, err := Parse(map[string]string{"r": text}, someNames)
	must(t, err, k.Set(rules))
}

// names lists the links below /dev, and where they point.
func (k *Keeper) names(t *testing.T) string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(k.Dev, func(file string, e fs.DirEntry, err error) error {
		if err == nil && e.Type()&fs.ModeSymlink != 0 {
			real, err := filepath.EvalSymlinks(file)
			name, _ := filepath.Rel(k.Dev, file)
			all[name] = strings.TrimPrefix(real, k.Dev+"/")
			return err
		}
		return err
	}))
	var out []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, name+"="+all[name])
	}
	return strings.Join(out, " ")
}

func TestKeeper(t *testing.T) {
	k := place(t)
	k.set(t, `SUBSYSTEM=="tty", KERNEL=="ttyUSB*", MODE="0660", GROUP="dialout", `+
		`SYMLINK+="modem by/%k", ATTR{latency}="1"`)
	if got, want := k.names(t), "by/ttyUSB0=ttyUSB0 by/ttyUSB1=ttyUSB1 modem=ttyUSB0"; got != want {
		t.Errorf("names %s, want %s", got, want)
	}
	st, err := os.Stat(filepath.Join(k.Dev, "ttyUSB1"))
	must(t, err)
	if of := st.Sys().(*syscall.Stat_t); st.Mode().Perm() != 0o660 || of.Gid != 20 || of.Uid != 0 {
		t.Errorf("the node has mode %v and belongs to %d:%d", st.Mode(), of.Uid, of.Gid)
	}
	if text, err := os.ReadFile(filepath.Join(k.Sys, "devices/usb1/ttyUSB0/latency")); string(text) != "1" {
		t.Errorf("the attribute is %q, %v", text, err)
	}
	// The first device goes, and the second one gets the name; the first one comes back, and has it again.
	k.Event("remove", "/devices/usb1/ttyUSB0", "ttyUSB0", nil)
	if got, want := k.names(t), "by/ttyUSB1=ttyUSB1 modem=ttyUSB1"; got != want {
		t.Errorf("after a removal %s, want %s", got, want)
	}
	k.Event("add", "/devices/usb1/ttyUSB0", "ttyUSB0", nil)
	// An event without effect takes nothing away.
	k.Event("change", "/devices/usb1/ttyUSB0", "ttyUSB0", nil)
	if got, want := k.names(t), "by/ttyUSB0=ttyUSB0 by/ttyUSB1=ttyUSB1 modem=ttyUSB0"; got != want {
		t.Errorf("after it came back %s, want %s", got, want)
	}
	// The daemon is killed, and the rules change meanwhile: its next life takes back what no rule gives any more.
	next := &Keeper{Sys: k.Sys, Dev: k.Dev, Record: k.Record, Log: k.Log}
	next.set(t, `KERNEL=="ttyUSB1", SYMLINK+="only"`)
	if got, want := next.names(t), "only=ttyUSB1"; got != want {
		t.Errorf("in the next life %s, want %s", got, want)
	}
	if _, err := os.Lstat(filepath.Join(k.Dev, "by")); err == nil {
		t.Error("the empty directory of names that are gone is left")
	}
	next.Again()
	next.set(t, "")
	if got := next.names(t); got != "" {
		t.Errorf("without rules %s", got)
	}
}

// TestKeeperReplacesNothingElse: a name of a node, or of a link of somebody else, is not taken.
func TestKeeperReplacesNothingElse(t *testing.T) {
	k := place(t)
	must(t, os.Symlink("ttyUSB1", filepath.Join(k.Dev, "theirs")), os.Symlink("/", filepath.Join(k.Dev, "out")))
	const text = `KERNEL=="ttyUSB0", SYMLINK+="ttyUSB1 theirs out/tmp/x fine"`
	rules, err := Parse(map[string]string{"r": text}, someNames)
	must(t, err)
	if err := k.Set(rules); err == nil {
		t.Error("names that are taken are no fault")
	}
	if got, want := k.names(t), "fine=ttyUSB0 out=/ theirs=ttyUSB1"; got != want {
		t.Errorf("names %s, want %s", got, want)
	}
	if st, err := os.Lstat(filepath.Join(k.Dev, "ttyUSB1")); err != nil || st.Mode()&fs.ModeDevice == 0 {
		t.Errorf("the node ttyUSB1 is %v, %v", st, err)
	}
	must(t, os.WriteFile(k.Record, []byte(`{"../../etc":"x"}`), 0o600))
	if got := (&Keeper{Record: k.Record}).recorded(); len(got) != 0 {
		t.Errorf("a record with %v is believed", got)
	}
}

// FuzzRules: whatever an owner writes and a device says, no name leaves /dev, no attribute the device, no mode has more
// than permissions, and a rule that was accepted never panics.
func FuzzRules(f *testing.F) {
	f.Add(`KERNEL=="ttyUSB*", MODE="0660", SYMLINK+="by/$attr{serial} %k"`, "A/7 ../x")
	f.Add("GOTO=\"a\"\nLABEL=\"a\"\nENV{x}=\"%s{serial}\"\nENV{x}!=\"[!a]|b\", SYMLINK=\"../%E{x}/$$\"", "\x00\n")
	f.Add(`ATTRS{serial}=="*", MODE="%s{serial}", ATTR{a/b}="$id"`, "7777")
	f.Fuzz(func(t *testing.T, text, serial string) {
		rules, _ := Parse(map[string]string{"r": text}, someNames)
		sys := maps.Clone(modem)
		sys["/devices/usb1/1-1 serial"] = serial
		e, _ := Decide(rules, line("add"), sys)
		if e.Mode > 0o777 {
			t.Errorf("%q: %v", text, e)
		}
		for _, l := range e.Links {
			if !filepath.IsLocal(l) || l == "." || strings.ContainsAny(l, "\x00\n ") {
				t.Errorf("%q gives the name %q", text, l)
			}
		}
		for _, w := range e.Writes {
			if !filepath.IsLocal(w.Name) {
				t.Errorf("%q writes %q", text, w.Name)
			}
		}
	})
}
