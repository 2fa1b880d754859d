package supervise

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/services/spec"
	"resinos/services/spec/precondition"
)

// ask connects to a socket, says text, and returns the answer.
func ask(t *testing.T, path, text string) string {
	t.Helper()
	conn, err := net.DialTimeout("unix", path, testenv.Patience())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(testenv.Patience()))
	io.WriteString(conn, text)
	conn.(*net.UnixConn).CloseWrite()
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func listener(name, path string) spec.Spec {
	s := actor(name, spec.Simple, "listen", "served by")
	s.Start, s.Restart = spec.OnDemand, spec.Always
	s.Listen = spec.Listen{Sockets: []spec.Socket{{Network: "unix", Address: path, Name: "web"}}, Mode: 0o600, Max: 2}
	return s
}

// TestInitSocket: nothing runs until somebody connects; whoever comes while it dies is served by
// the next life; stopped, nobody is taken in.
func TestInitSocket(t *testing.T) {
	tree, path := asInit(t), filepath.Join(t.TempDir(), "web.sock")
	user := sh("user", "exec sleep 1000")
	user.Needs = []string{"web"}
	r := start(t, Config{Specs: []spec.Spec{listener("web", path), user}, Cgroups: tree, Launcher: self()})
	if st := r.until("web", in("armed")); st.PID != 0 || st.Restarts != 0 || st.Demand[0] != "listen web=unix:"+path {
		t.Errorf("armed: %+v", st)
	}
	r.until("user", in("up"))
	first := ask(t, path, "die")
	if !strings.HasPrefix(first, "served by ") {
		t.Fatalf("the service says %q", first)
	}
	r.until("web", in("armed"))
	for range 5 {
		ask(t, path, "die")
	}
	stay := r.until("web", in("armed"))
	ask(t, path, "")
	up := r.until("web", in("up"))
	if up.Restarts <= stay.Restarts {
		t.Errorf("no new life: %+v", up)
	}
	r.mustCall("stop", "web")
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("a stopped service takes connections")
	}
	if st := r.status("user"); st.State != "waiting" {
		t.Errorf("its user is %s", st.State)
	}
	r.mustCall("start", "web")
	if again := ask(t, path, ""); !strings.HasPrefix(again, "served by ") {
		t.Errorf("after a start it says %q", again)
	}
}

// TestInitSocketEach: one process a connection, no more than allowed, the others wait.
func TestInitSocketEach(t *testing.T) {
	tree, path := asInit(t), filepath.Join(t.TempDir(), "each.sock")
	each := listener("each", path)
	each.Command, each.Listen.Each = []string{self(), "play", "connection"}, true
	r := start(t, Config{Specs: []spec.Spec{each}, Cgroups: tree, Launcher: self()})
	r.until("each", in("up"))
	var conns []net.Conn
	for range 3 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conns = append(conns, conn)
	}
	var pid [3]int
	for i := range 2 {
		if _, err := fmt.Fscan(conns[i], &pid[i]); err != nil || pid[i] == 0 {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	if pid[0] == pid[1] {
		t.Error("two connections, one process")
	}
	third := make(chan error, 1)
	go func() { // ends with the connection
		_, err := fmt.Fscan(conns[2], &pid[2])
		third <- err
	}()
	testenv.NeverReceive(t, 100*time.Millisecond, "a third connection is served beside two", third)
	conns[0].Close()
	if err := testenv.Receive(t, "the service of the third connection", third); err != nil {
		t.Errorf("the third connection is not served: %v", err)
	}
	if st := r.status("each"); st.Clients != 2 {
		t.Errorf("status tells %d connections", st.Clients)
	}
	r.mustCall("stop", "each")
	if populated, err := tree.Populated("each"); err != nil || populated {
		t.Errorf("processes are left: %t %v", populated, err)
	}
	noZombies(t)
}

// TestInitStored: a service that starts at boot ends, and starts again when there is something on a descriptor that it
// has left, or when that hangs up; it never spins.
func TestInitStored(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	fifo, file := dir+"/fifo", dir+"/said"
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	s := actor("rest", spec.Notify, "rest", fifo, file)
	s.Start, s.Restart, s.FDStore, s.ListenStored = spec.AtBoot, spec.OnFailure, 2, true
	r := start(t, Config{Specs: []spec.Spec{s}, Cgroups: tree, Launcher: self(), NotifyPath: dir + "/notify"})
	st := r.until("rest", in("armed"))
	if st.Stored != 1 || st.Restarts != 0 || !st.AtBoot || strings.Join(st.Demand, " ") != "listen-stored" {
		t.Errorf("at rest: %+v", st)
	}
	want := ""
	for i := range 3 {
		w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		for j := range 2 {
			text := fmt.Sprintf("%d%d,", i, j)
			w.WriteString(text)
			want += text
			waitFor(t, text, func() bool { data, _ := os.ReadFile(file); return string(data) == want })
			r.until("rest", in("armed"))
		}
		w.Close()
		want += "end."
		waitFor(t, "the end of the FIFO", func() bool { data, _ := os.ReadFile(file); return string(data) == want })
		if st := r.until("rest", in("armed")); st.Stored != 1 || st.Restarts != 3*(i+1) {
			t.Errorf("after hangup %d: %+v", i+1, st)
		}
	}
	noZombies(t)
}

func TestInitTimerAndPath(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	every := sh("every", "echo x >> "+dir+"/ticks")
	every.Start, every.Timer.Every = spec.OnDemand, 100*time.Millisecond
	every.Type, every.Restart = spec.Oneshot, spec.Never
	path := sh("path", "cat "+dir+"/watched >> "+dir+"/seen; sleep 0.3")
	path.Start, path.WatchPaths = spec.OnDemand, []string{dir + "/watched"}
	path.Type, path.Restart = spec.Oneshot, spec.Never
	r := start(t, Config{Specs: []spec.Spec{every, path}, Cgroups: tree})
	waitFor(t, "five ticks", func() bool { data, _ := os.ReadFile(dir + "/ticks"); return len(data) >= 10 })
	r.until("path", in("armed"))
	for i := range 3 { // the second and third while the first is at work: they count as one
		os.WriteFile(dir+"/watched.new", fmt.Appendf(nil, "%d", i), 0o644)
		os.Rename(dir+"/watched.new", dir+"/watched")
		if i == 0 {
			waitFor(t, "the first change seen", func() bool { _, err := os.Stat(dir + "/seen"); return err == nil })
		}
	}
	waitFor(t, "the last change seen", func() bool {
		data, _ := os.ReadFile(dir + "/seen")
		return strings.HasSuffix(string(data), "2")
	})
	r.until("path", in("armed"))
}

func TestInitConditions(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	no := sh("no", "exec sleep 1000")
	no.Conditions = []precondition.Condition{{Kind: precondition.Path, Value: dir + "/there"}}
	yes := sh("yes", "exec sleep 1000")
	yes.Conditions = []precondition.Condition{{Kind: precondition.Path, Not: true, Value: dir + "/there"}}
	r := start(t, Config{Specs: []spec.Spec{no, yes}, Cgroups: tree})
	r.until("yes", in("up"))
	if st := r.until("no", in("skipped")); !strings.Contains(st.Reason, "condition-path") {
		t.Errorf("skipped: %+v", st)
	}
	if _, err := r.call("start", "no"); err == nil || !strings.Contains(err.Error(), "condition-path") {
		t.Errorf("start of a service whose condition does not hold: %v", err)
	}
	os.WriteFile(dir+"/there", nil, 0o644)
	r.mustCall("start", "no")
}

// TestInitConditionOfSockets: a port whose service would not start is closed, and nobody is started to look after it.
func TestInitConditionOfSockets(t *testing.T) {
	tree, dir := asInit(t), t.TempDir()
	door := sh("door", "touch "+dir+"/started; exec sleep 1000")
	sockets := []spec.Socket{{Network: "unix", Address: dir + "/socket"}}
	door.Start, door.Listen = spec.OnDemand, spec.Listen{Sockets: sockets, Mode: 0o600, Max: 1}
	door.Conditions = []precondition.Condition{{Kind: precondition.Path, Value: dir + "/there"}}
	r := start(t, Config{Specs: []spec.Spec{door}, Cgroups: tree})
	dial := func() error {
		conn, err := net.Dial("unix", dir+"/socket")
		if err == nil {
			conn.Close()
		}
		return err
	}
	if st := r.until("door", in("skipped")); !strings.Contains(st.Reason, "condition-path") {
		t.Errorf("skipped: %+v", st)
	}
	if dial() == nil {
		t.Error("the socket is open while the condition does not hold")
	}
	os.WriteFile(dir+"/there", nil, 0o644)
	r.mustCall("start", "door")
	r.until("door", in("armed"))
	if _, err := os.Stat(dir + "/started"); err == nil {
		t.Error("the service was started by nobody's demand")
	}
	if err := dial(); err != nil {
		t.Errorf("the socket is closed while the condition holds: %v", err)
	}
	r.until("door", in("up"))
	os.Remove(dir + "/there")
	r.mustCall("stop", "door")
	if dial() == nil {
		t.Error("the socket is open after the stop")
	}
	// Its next way up ends before its sockets.
	if _, err := r.call("start", "door"); err == nil || dial() == nil {
		t.Errorf("start while the condition does not hold: %v", err)
	}
	r.until("door", in("skipped"))
}

func TestInitConflicts(t *testing.T) {
	tree := asInit(t)
	a, b := sh("a", "exec sleep 1000"), sh("b", "exec sleep 1000")
	b.Conflicts = []string{"a"}
	r := start(t, Config{Specs: []spec.Spec{a, b}, Cgroups: tree})
	r.until("a", in("up"))
	if st := r.status("b"); st.State != "down" || !strings.Contains(st.Reason, "conflicts with a") {
		t.Errorf("b beside a: %+v", st)
	}
	r.mustCall("start", "b")
	if st := r.status("a"); st.State != "down" {
		t.Errorf("a beside b: %+v", st)
	}
	r.mustCall("start", "a")
	if st := r.status("b"); st.State != "down" {
		t.Errorf("b beside a again: %+v", st)
	}
}
