package hardening

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// closedDevice is a production device that is as it has to be.
func closedDevice(t *testing.T) (Table, Device, Facts) {
	t.Helper()
	table, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	f := Facts{
		Listeners: []string{"tcp *:22222 sshd", "tcp 127.0.0.2:53 netd", "udp 192.0.2.7:68 netd", "packet 0800 netd"},
		Mounts: map[string]string{"/": "ro,nosuid,nodev", "/run": "rw,nosuid,nodev", "/tmp/x": "rw,nosuid,nodev,noexec",
			"/mnt/data": "rw,nodev"},
		Settings: map[string]string{}, Arguments: []string{"panic=10", "oops=panic", "debugfs=off", "quiet", "gpt"},
		Secrets: map[string]string{}, Rights: map[string][]string{"CAP_SYS_MODULE": {"devd", "init"}},
		Terminals: []string{"console init"},
		Modules:   []string{"ext4"},
	}
	for _, s := range table.Settings {
		f.Settings[strings.ReplaceAll(s.Key, "[^l]*", "eth0")] = s.Value
	}
	f.Settings["vm.lowmem_reserve_ratio"] += "\t256\t32" // the kernel says more than was written
	for _, s := range table.Secrets {
		if s.Must {
			f.Secrets[s.Path] = "0:0 0600"
		}
	}
	return table, Device{Variant: "production", SSH: true}, f
}

// TestJudge: each way in which a device can differ is found, and nothing else.
func TestJudge(t *testing.T) {
	for want, change := range map[string]func(*Facts){
		"": func(*Facts) {},
		"listener tcp *:80 httpd is not in the table": func(f *Facts) {
			f.Listeners = append(f.Listeners, "tcp *:80 httpd")
		},
		"listener tcp *:22222 nc is not in the table": func(f *Facts) {
			f.Listeners = append(f.Listeners, "tcp *:22222 nc")
		},
		"listener tcp *:2375 init is not in the table": func(f *Facts) {
			f.Listeners = append(f.Listeners, "tcp *:2375 init")
		},
		"listener tcp 192.0.2.7:53 netd is not in the table": func(f *Facts) {
			f.Listeners = append(f.Listeners, "tcp 192.0.2.7:53 netd")
		},
		"listener udp 127.0.0.1:68 netd is not in the table": func(f *Facts) {
			f.Listeners = append(f.Listeners, "udp 127.0.0.1:68 netd")
		},
		"listener tcp *:22222 is missing": func(f *Facts) {
			f.Listeners = f.Listeners[1:]
		},
		"mount / lacks nodev: it has ro,nosuid": func(f *Facts) {
			f.Mounts["/"] = "ro,nosuid"
		},
		"mount /tmp/x lacks noexec: it has rw,nosuid,nodev": func(f *Facts) {
			f.Mounts["/tmp/x"] = "rw,nosuid,nodev"
		},
		"file /usr/bin/su has set-user-ID or set-group-ID": func(f *Facts) {
			f.Special = []string{"/usr/bin/su"}
		},
		"setting kernel.sysrq is 1: want 0": func(f *Facts) {
			f.Settings["kernel.sysrq"] = "1"
		},
		"setting vm.lowmem_reserve_ratio is 256\t2048: want 2048": func(f *Facts) {
			f.Settings["vm.lowmem_reserve_ratio"] = "256\t2048"
		},
		"setting net.ipv4.conf.eth1.accept_redirects is 1: want 0": func(f *Facts) {
			f.Settings["net.ipv4.conf.eth1.accept_redirects"] = "1"
		},
		"command line: debugfs=off is there or missing against the table": func(f *Facts) {
			f.Arguments = slices.Delete(f.Arguments, 2, 3)
		},
		"command line: loglevel=5 is there or missing against the table": func(f *Facts) {
			f.Arguments = append(f.Arguments, "loglevel=5")
		},
		"secret /etc/shadow is 0:0 0644: want 0:0 0600": func(f *Facts) {
			f.Secrets["/etc/shadow"] = "0:0 0644"
		},
		"secret /etc/ssh/hostkeys/key is 74:0 0600: want 0:0 0600": func(f *Facts) {
			f.Secrets["/etc/ssh/hostkeys/key"] = "74:0 0600"
		},
		"secret /mnt/boot/config.json is not there": func(f *Facts) {
			delete(f.Secrets, "/mnt/boot/config.json")
		},
		"a container: sh has CAP_SYS_MODULE": func(f *Facts) {
			f.Rights["CAP_SYS_MODULE"] = []string{"a container: sh"}
		},
		"netd has CAP_SYS_MODULE": func(f *Facts) {
			f.Rights["CAP_SYS_MODULE"] = []string{"netd"}
		},
		"pppd has CAP_SYS_MODULE": func(f *Facts) {
			f.Rights["CAP_SYS_MODULE"] = []string{"pppd", "ModemManager (filtered)"}
		},
		"netd (filtered) has CAP_SYS_MODULE": func(f *Facts) {
			f.Rights["CAP_SYS_MODULE"] = []string{"netd (filtered)"}
		},
		"terminal: ttyS0 pppd reads it": func(f *Facts) {
			f.Terminals = append(f.Terminals, "ttyUSB1 pppd", "ttyS0 pppd")
		},
		"/dev/mem: every user may write it": func(f *Facts) {
			f.Writable = []string{"/dev/null", "/var/tmp", "/dev/mem", "/dev/pts/ptmx"}
		},
		"socket @evil nc has no file": func(f *Facts) {
			f.Abstract = []string{"@evil nc"}
		},
		"listener tcp 10.114.105.1:53 netd is not in the table": func(f *Facts) {
			f.Listeners = append(f.Listeners, "udp 10.114.105.1:53 containerd", "tcp 10.114.105.1:53 netd")
		},
		"module evil is no file of the root": func(f *Facts) {
			f.Modules = []string{"evil"}
		},
		"terminal: ttyS0 getty reads it": func(f *Facts) {
			f.Terminals = append(f.Terminals, "ttyS0 getty")
		},
		"/usr/bin/sh is in a production image": func(f *Facts) {
			f.Shells = []string{"/usr/bin/sh"}
		},
	} {
		table, d, f := closedDevice(t)
		change(&f)
		if got := strings.Join(table.Judge(d, f), "\n"); got != want {
			t.Errorf("judged is %q, want %q", got, want)
		}
	}
}

// TestJudgeOpen: with the development mode on more is open, and a terminal may be read; with Docker's API or without.
func TestJudgeOpen(t *testing.T) {
	table, d, f := closedDevice(t)
	d.Variant, d.Open = "development", true
	f.Arguments = []string{"panic=10", "oops=panic", "debugfs=off", "loglevel=5"}
	f.Terminals, f.Shells = []string{"tty1 sh"}, []string{"/usr/bin/sh"}
	for _, more := range []string{"tcp 127.0.0.2:53 netd", "tcp *:2375 init", "tcp *:2377 dockerd"} {
		f.Listeners = append(f.Listeners, more)
		if faults := table.Judge(d, f); len(faults) > 0 {
			t.Errorf("open, with %s: %q", more, faults)
		}
	}
	d.Open = false
	want := "[listener tcp *:2375 init is not in the table listener tcp *:2377 dockerd is not in the table " +
		"terminal: tty1 sh reads it]"
	if faults := table.Judge(d, f); fmt.Sprint(faults) != want {
		t.Errorf("closed: %q, want %s", faults, want)
	}
}

func TestReachable(t *testing.T) {
	table, d, _ := closedDevice(t)
	if got := fmt.Sprint(table.Reachable(d)); got != "[22222]" {
		t.Errorf("production with keys: %s", got)
	}
	developed := Device{Variant: "development", Open: true, SSH: true}
	if got := fmt.Sprint(table.Reachable(developed)); got != "[2375 2377 22222]" {
		t.Errorf("development: %s", got)
	}
	d.SSH = false
	if got := table.Reachable(d); len(got) != 0 {
		t.Errorf("production without keys: %v", got)
	}
}

// TestParseSockets: what the kernel prints of sockets that wait, on a processor whose first byte is the lowest.
func TestParseSockets(t *testing.T) {
	tcp := `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0200007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 1 0
   1: 0100007F:0035 0200007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 1235 1 0
`
	six := `head
   0: 00000000000000000000000000000000:56CE 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 77 1
   1: 000080FE00000000FF005452010072FE:0222 00000000000000000000000000000000:0000 07 0:0 00:0 0 0 0 78 1
`
	first := six[:strings.Index(six, "   1:")]
	got := fmt.Sprint(parseSockets("tcp", tcp), parseSockets("tcp6", first), parseSockets("udp6", six))
	if want := "[{tcp 127.0.0.2:53 1234}] [{tcp *:22222 77}] [{udp fe80::5254:ff:fe72:1:546 78}]"; got != want {
		t.Errorf("sockets are %s, want %s", got, want)
	}
	local := `Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 12341 /run/x.sock
0000000000000000: 00000003 00000000 00000000 0001 03 12342
0000000000000000: 00000002 00000000 00010000 0001 01 12343 @evil
`
	if got := fmt.Sprint(parseAbstract(local), parseAbstract("")); got != "[{@evil 12343}] []" {
		t.Errorf("abstract sockets are %s", got)
	}
	for _, junk := range []string{"", "\n", "head\n1: 2 3\n", "head\n 0: X:Y Z 0A 1 2 3 4 5 6"} {
		parseSockets("udp", junk)
	}
}

// TestObserve: the observer sees a socket of this very process, on whatever machine.
func TestObserve(t *testing.T) {
	all, err := processes()
	if err != nil {
		t.Fatal(err)
	}
	self := fmt.Sprint(os.Getpid())
	if !slices.ContainsFunc(all, func(p process) bool { return p.lines["Pid"] == self && len(p.held) > 2 }) {
		t.Errorf("this process is not among %d", len(all))
	}
}

func TestParseFaults(t *testing.T) {
	for text, want := range map[string]string{
		"[[listener]]\nsocket = \"tcp *:1\"\n":                  "no programs, or no reason",
		"[[mount]]\nat = \"[\"\nwhy = \"x\"\n":                  "is no pattern",
		"[[mount]]\nat = \"/x\"\n":                              "has no reason",
		"[[writable]]\npath = \"/x\"\n":                         "has no reason",
		"[[setting]]\nkeys = \"x\"\n":                           "unknown key",
		"[[listener":                                            "parse x",
		"[[argument]]\nword = \"x\"\nmode = 7\n":                "parse x",
		"[[secret]]\npath = \"/x\"\nmust = true\nelse = \"\"\n": "unknown key",
	} {
		if _, err := Parse("x", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
