package confine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/spec"
)

func box(s spec.Confinement) Launch { return Launch{Confinement: s} }

// want compares what a test found with and without a feature.
func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestReadOnlyPaths(t *testing.T) {
	dir := newDir(t)
	attachTmpfs(t, dir+"/below")
	if err := os.Symlink(dir, dir+".link"); err != nil {
		t.Fatal(err)
	}
	line := "touch " + dir + "/x; touch " + dir + "/below/x; touch " + stage + "/free && echo free"
	out, _ := shell(t, Launch{}, line)
	want(t, "without", out, "free")
	denied := "touch: " + dir + "/x: Read-only file system\ntouch: " + dir + "/below/x: Read-only file system\nfree"
	for _, path := range []string{dir, dir + ".link", "-" + dir} {
		out, _ = shell(t, box(spec.Confinement{ReadOnlyPaths: []string{path, "-/no/such"}}), line)
		want(t, path, out, denied)
	}
	out, _ = shell(t, box(spec.Confinement{ReadOnlyPaths: []string{"/"}, PrivateTmp: true}),
		"touch "+dir+"/x; touch /tmp/x && echo tmp")
	want(t, "all but /tmp", out, "touch: "+dir+"/x: Read-only file system\ntmp")
	out, _ = shell(t, Launch{}, line)
	want(t, "the host afterwards", out, "free")
}

// TestReadOnlyStays: a service without CAP_SYS_ADMIN cannot undo it.
func TestReadOnlyStays(t *testing.T) {
	dir := newDir(t)
	try := func(s spec.Confinement) string {
		l := box(s)
		l.Command = []string{attacker}
		out, _ := start{Launch: l, environ: []string{sceneVariable + "=remount-read", "AT=" + dir}}.run(t)
		return out
	}
	want(t, "root", try(spec.Confinement{ReadOnlyPaths: []string{dir}}), "done")
	want(t, "bounded", try(spec.Confinement{ReadOnlyPaths: []string{dir}, Bounded: true}), "EPERM")
}

func TestHiddenPaths(t *testing.T) {
	dir := newDir(t)
	put(t, dir+"/keys/secret", "s3cret")
	file := put(t, dir+"/token", "t0ken")
	line := "cd " + dir + "; cat keys/secret token; ls keys; stat -c '%a %F' keys token"
	out, _ := shell(t, Launch{}, line)
	want(t, "without", out, "s3crett0kensecret\n755 directory\n644 regular file")
	for range 2 { // and in any order
		out, _ = shell(t, box(spec.Confinement{HiddenPaths: []string{file, dir + "/keys", "-/no/such", "/proc/sys"}}),
			line)
		want(t, "hidden", out, "cat: can't open 'keys/secret': No such file or directory\n0 directory\n0 regular "+
			"empty file")
	}
	user := Launch{User: "65534", Group: "65534", Confinement: spec.Confinement{HiddenPaths: []string{file}}}
	out, _ = shell(t, user, "cat "+file)
	want(t, "as a user", out, "cat: can't open '"+file+"': Permission denied")
	out, _ = shell(t, box(spec.Confinement{HiddenPaths: []string{file}}), "echo x > "+file)
	if !strings.Contains(out, "Read-only file system") {
		t.Errorf("write to a hidden file: %q", out)
	}
	if out, code := shell(t, box(spec.Confinement{HiddenPaths: []string{"/no/such"}}), "true"); code != exitMount ||
		!strings.Contains(out, "hide /no/such: no such file or directory: write \"-\" before") {
		t.Errorf("missing path: %d %s", code, out)
	}
	// The whole of /proc, then a file: no step needs it.
	out, _ = shell(t, box(spec.Confinement{HiddenPaths: []string{"/proc", file}}), "cat "+file+"; ls /proc")
	want(t, "with /proc hidden", out, "")
}

func TestPrivateTmp(t *testing.T) {
	needRoot(t)
	mark := put(t, "/tmp/"+filepath.Base(newDir(t)), "host")
	t.Cleanup(func() { os.Remove(mark) })
	line := "cat " + mark + "; echo mine > " + mark + ".mine; stat -c %a /tmp /var/tmp; ls /var/tmp | wc -l"
	out, _ := shell(t, box(spec.Confinement{PrivateTmp: true}), line)
	want(t, "private", out, "cat: can't open '"+mark+"': No such file or directory\n1777\n1777\n0")
	if _, err := os.Stat(mark + ".mine"); err == nil {
		t.Error("the service's file is in the host's /tmp")
	}
	out, _ = shell(t, Launch{}, "cat "+mark)
	want(t, "without", out, "host")
	// The working directory is the new one.
	l := box(spec.Confinement{PrivateTmp: true})
	l.Command = []string{busybox, "sh", "-c", "cd /tmp && exec " + busybox + " true"}
	if out, code := (start{Launch: l}).run(t); code != 0 {
		t.Errorf("%d %s", code, out)
	}
}

// TestPropagation: what of the mounts of host and service reaches the other side.
func TestPropagation(t *testing.T) {
	for _, c := range []struct {
		name             string
		box              spec.Confinement
		arrives, escapes bool
	}{
		{"default", spec.Confinement{MountNamespace: true}, true, false},
		{"slave", spec.Confinement{MountNamespace: true, Propagation: spec.Slave}, true, false},
		{"private", spec.Confinement{MountNamespace: true, Propagation: spec.Private}, false, false},
		{"shared", spec.Confinement{MountNamespace: true, Propagation: spec.Shared}, true, true},
		{"shared with own mounts", spec.Confinement{PrivateTmp: true, Propagation: spec.Shared}, true, false},
		{"none", spec.Confinement{}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			arrives, escapes := travel(t, c.box)
			if arrives != c.arrives || escapes != c.escapes {
				t.Errorf("host's arrives %t, service's escapes %t", arrives, escapes)
			}
			if mounted(t, "/tmp") {
				t.Error("the private /tmp escaped")
			}
		})
	}
}

// travel has a service mount something, then the host, then the service look.
func travel(t *testing.T, s spec.Confinement) (arrives, escapes bool) {
	dir := newDir(t)
	for _, name := range []string{"/own", "/host"} {
		if err := os.Mkdir(dir+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, fifo := range []string{"/ready", "/go"} {
		if err := unix.Mkfifo(dir+fifo, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		os.ReadFile(dir + "/ready")
		escapes = mounted(t, dir+"/own")
		unix.Mount("tmpfs", dir+"/host", "tmpfs", 0, "")
		os.WriteFile(dir+"/go", nil, 0)
	}()
	out, _ := shell(t, box(s), "cd "+dir+"; mount -t tmpfs none own && echo > ready; cat go; grep -c "+dir+
		"/host /proc/self/mounts; umount own")
	unix.Unmount(dir+"/host", unix.MNT_DETACH)
	unix.Unmount(dir+"/own", unix.MNT_DETACH)
	return out == "1", escapes
}

func mounted(t *testing.T, path string) bool {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Error(err)
	}
	return strings.Contains(string(data), " "+path+" ")
}

const passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:4001:4002:Web:/srv/web:/bin/false\n"
const groups = "root:x:0:\nweb:x:4002:\nvideo:x:44:web,other\naudio:x:29:\n"

func TestUser(t *testing.T) {
	needRoot(t)
	bindFile(t, passwd, "/etc/passwd")
	bindFile(t, groups, "/etc/group")
	for _, c := range []struct {
		l                 Launch
		uid, gid, members string
	}{
		{Launch{User: "web"}, "4001", "4002", "44"},
		{Launch{User: "4001"}, "4001", "4002", "44"},
		{Launch{User: "web", Group: "audio", Groups: []string{"5", "video"}}, "4001", "29", "5 44"},
		{Launch{User: "77", Group: "78"}, "77", "78", ""},
		{Launch{Group: "video"}, "0", "44", ""},
		{Launch{User: "web", Confinement: spec.Confinement{HiddenPaths: []string{"/etc/passwd", "/etc/group"}}}, "4001",
			"4002", "44"},
	} {
		four := func(id string) string { return strings.Join([]string{id, id, id, id}, " ") }
		want(t, "uid", status(t, c.l, "Uid"), four(c.uid))
		want(t, "gid", status(t, c.l, "Gid"), four(c.gid))
		want(t, "groups", status(t, c.l, "Groups"), c.members)
	}
	out, _ := shell(t, Launch{User: "web"}, "echo $HOME $USER $LOGNAME $SHELL $"+Variable)
	want(t, "environment", out, "/srv/web web web")
	want(t, "setuid of root", scene(t, Launch{}, "setuid"), "done")
	want(t, "setuid back", scene(t, Launch{User: "web"}, "setuid"), "EPERM")
	for _, c := range []struct {
		l    Launch
		text string
	}{
		{Launch{User: "nobdy"}, "launch: lookup user nobdy: not in /etc/passwd: add it there or correct user in the " +
			"service file"},
		{Launch{User: "web", Group: "vdeo"}, "launch: lookup group vdeo: not in /etc/group: add it there or correct " +
			"group in the service file"},
		{Launch{User: "99"},
			"launch: lookup user 99: not in /etc/passwd, so it has no group: add it there or set group"},
	} {
		out, code := shell(t, c.l, "true")
		if want(t, "message", out, c.text); code != exitUser {
			t.Errorf("exit code %d (%s)", code, ExitText(code))
		}
	}
}

func TestCapabilities(t *testing.T) {
	needRoot(t)
	const netBind, chown = "0000000000000400", "0000000000000001"
	bounded := func(names ...string) spec.Confinement { return spec.Confinement{Bounded: true, Capabilities: names} }
	for _, c := range []struct {
		name string
		l    Launch
		caps [5]string // inheritable, permitted, effective, bounding, ambient
	}{
		{"root", box(bounded("CAP_NET_BIND_SERVICE")), [5]string{netBind, netBind, netBind, netBind, "0"}},
		{"root with none", box(bounded()), [5]string{"0", "0", "0", "0", "0"}},
		{"user", Launch{User: "7", Group: "7", Confinement: bounded("cap_chown")}, [5]string{chown, chown, chown, chown,
			chown}},
		{"user with none", Launch{User: "7", Group: "7", Confinement: bounded()}, [5]string{"0", "0", "0", "0", "0"}},
	} {
		for i, key := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
			got := strings.TrimLeft(status(t, c.l, key), "0")
			want(t, c.name+" "+key, got, strings.TrimLeft(c.caps[i], "0"))
		}
		want(t, c.name+" raises", scene(t, c.l, "raise"), "EPERM")
	}
	if got := status(t, Launch{User: "7", Group: "7"}, "CapEff"); strings.Trim(got, "0") != "" {
		t.Errorf("a user has %s", got)
	}
	if out, code := shell(t, box(bounded("CAP_FLY")), "true"); code != exitBound ||
		!strings.Contains(out, "no capability CAP_FLY: see capabilities(7)") {
		t.Errorf("%d %s", code, out)
	}
}

// TestNoNewPrivileges: a set-user-id program of root does not make root of its caller.
func TestNoNewPrivileges(t *testing.T) {
	dir := newDir(t)
	data, err := os.ReadFile(attacker)
	if err == nil {
		err = os.WriteFile(dir+"/su", data, 0o755)
	}
	if err == nil {
		err = os.Chmod(dir+"/su", 0o755|os.ModeSetuid)
	}
	if err != nil {
		t.Fatal(err)
	}
	user := Launch{User: "7", Group: "7", Command: []string{dir + "/su"}}
	ids := []string{sceneVariable + "=ids"}
	out, _ := start{Launch: user, environ: ids}.run(t)
	want(t, "without", out, "7 0 done")
	user.Confinement.NoNewPrivileges = true
	out, _ = start{Launch: user, environ: ids}.run(t)
	want(t, "with", out, "7 7 done")
	want(t, "status", status(t, box(spec.Confinement{NoNewPrivileges: true}), "NoNewPrivs"), "1")
}

func TestRlimitsAndNice(t *testing.T) {
	l := box(spec.Confinement{Nice: 7, Rlimits: map[string]spec.Rlimit{"nofile": {Soft: 100, Hard: 200}, "core": {},
		"stack": {Soft: 1 << 20, Hard: spec.Infinity}}})
	out, _ := shell(t, l, "exec "+busybox+" cat /proc/self/limits")
	for _, line := range []string{"Max open files 100 200 files", "Max core file size 0 0 bytes",
		"Max stack size 1048576 unlimited bytes"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), line) {
			t.Errorf("limits lack %q:\n%s", line, out)
		}
	}
	out, _ = shell(t, l, "exec "+busybox+" cut -d ' ' -f 19 /proc/self/stat")
	want(t, "nice", out, "7")
	before, _ := shell(t, Launch{}, "ulimit -n")
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	t.Logf("descriptors without a limit: %s; ours %d", before, own.Cur)
	if out, code := shell(t, box(spec.Confinement{Rlimits: map[string]spec.Rlimit{"files": {}}}),
		"true"); code != exitRlimit || !strings.Contains(out, "no such limit; there are: cpu") {
		t.Errorf("%d %s", code, out)
	}
}

func TestDescriptors(t *testing.T) {
	needRoot(t)
	var files []*os.File
	for range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		files = append(files, w)
	}
	try := func(l Launch, files []*os.File) string {
		l.Command = []string{attacker}
		out, _ := start{Launch: l, environ: []string{sceneVariable + "=open-files", "LISTEN_FDS=9", "LISTEN_PID=1"},
			files: files}.run(t)
		return out
	}
	own := spec.Confinement{PrivateTmp: false, ReadOnlyPaths: []string{"/usr"}, HiddenPaths: []string{"/etc/group"},
		Seccomp: "default"}
	want(t, "none", try(box(own), nil), "0 1 2   done")
	want(t, "listening", try(Launch{Confinement: own, Listen: 2, Names: []string{"http", "https"}}, files[:2]),
		"0 1 2 3 4 2 http:https mine done")
	watchdog, _ := shell(t, Launch{Watchdog: 1500 * time.Millisecond}, "[ $WATCHDOG_PID = $$ ] && echo $WATCHDOG_USEC")
	want(t, "watchdog", watchdog, "1500000")
}

func TestExecFails(t *testing.T) {
	dir := newDir(t)
	script := put(t, dir+"/plain", "text")
	for path, text := range map[string]string{
		"/no/such": "launch: execute /no/such: no such file or directory: look for the program",
		script:     "launch: execute " + script + ": permission denied: the service's user must be able",
	} {
		l := Launch{Command: []string{path}, Confinement: spec.Confinement{Seccomp: "strict"}}
		if out, code := (start{Launch: l}).run(t); code != exitExec || !strings.HasPrefix(out, text) {
			t.Errorf("%d %s", code, out)
		}
	}
	if code := Main([]string{"A=b"}); code != exitOrders {
		t.Errorf("without orders: %d", code)
	}
}
