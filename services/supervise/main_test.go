package supervise

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/services/cgroup"
	"resinos/services/confine"
	"resinos/services/notify"
	"resinos/services/supervise/command"
)

// The test binary plays four parts: the tests; the launcher; a service, when its first argument is "play"; and
// PID 1 of a namespace with a cgroup v2 mounted at the directory that this variable names, where it
// runs the tests whose names begin with TestInit.
const initVariable = "RESINOS_SUPERVISE_INIT"

func TestMain(m *testing.M) {
	if os.Args[0] == command.Launcher {
		os.Exit(confine.Main(os.Environ()))
	}
	if len(os.Args) > 2 && os.Args[1] == "play" { // an applet of the same binary, as PID 1 takes it
		if code := confine.Adopt(); code != 0 {
			os.Exit(code)
		}
		play(os.Args[2:])
		return
	}
	if dir := os.Getenv(initVariable); dir != "" {
		for _, mount := range [][3]string{{"proc", "/proc", "proc"}, {"none", dir, "cgroup2"}} {
			if err := syscall.Mount(mount[0], mount[1], mount[2], 0, ""); err != nil {
				fmt.Println("mount", mount, err)
				os.Exit(77)
			}
		}
	}
	os.Exit(m.Run())
}

// TestAsInit runs the TestInit tests as PID 1.
func TestAsInit(t *testing.T) {
	if os.Getenv(initVariable) != "" {
		return
	}
	testenv.NeedRoot(t, "a pid namespace")
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestInit", "-test.v", testenv.Timeout(t))
	cmd.Env = append(os.Environ(), initVariable+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 77 {
		testenv.Lacking(t, "a namespace: %s", out)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// asInit skips a test that is not run by PID 1, and gives it a tree of its own.
func asInit(t *testing.T) *cgroup.Tree {
	t.Helper()
	dir := os.Getenv(initVariable)
	if dir == "" {
		t.Skip("run by TestAsInit")
	}
	path := filepath.Join(dir, "resinos-test-"+strings.ToLower(t.Name())+strconv.FormatInt(time.Now().UnixNano(), 36))
	tree, err := cgroup.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tree.KillAll()
		testenv.WaitFor(t, "the cgroup tree is removed", func() bool { return tree.Remove(".") == nil })
	})
	return tree
}

func self() string { return "/proc/self/exe" }

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// play is what the test binary does as a service.
func play(args []string) {
	switch args[0] {
	case "ready": // TEXT: says that it is ready and stays
		must(notify.Send("READY=1\nSTATUS=" + args[1]))
		select {}
	case "engine": // FILE: leaves one shim, if FILE names none that lives, and is ready
		if data, err := os.ReadFile(args[1]); err != nil || !exists(string(data)) {
			pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"},
				&syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setsid: true}})
			must(err)
			must(os.WriteFile(args[1], []byte(strconv.Itoa(pid)), 0o644))
		}
		must(notify.Ready())
		select {}
	case "litter": // N FILE: forks N daemons with sessions of their own, says so in FILE, and stays
		n, err := strconv.Atoi(args[1])
		must(err)
		for range n {
			_, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"},
				&syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setsid: true}})
			must(err)
		}
		must(os.WriteFile(args[2], nil, 0o644))
		select {}
	case "listen": // TEXT: answers each connection to descriptor 3 with TEXT and its pid, until one says "die"
		if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDNAMES") != "web" {
			must(fmt.Errorf("the socket is not for us: %q", os.Environ()))
		}
		listen(args[1])
	case "connection": // writes its pid to the connection at descriptor 3 and waits for its end
		conn := os.NewFile(3, "connection")
		fmt.Fprintln(conn, os.Getpid())
		io.Copy(io.Discard, conn)
	case "store": // FILE: keeps an open file with us over restarts, and writes its content to FILE
		store(args[1])
	case "rest": // FIFO FILE: leaves the FIFO with us and ends; then appends what came through it to FILE
		rest(args[1], args[2])
	case "handover": // FILE: a child becomes the main process, and the parent ends once FILE is there
		if len(args) > 2 {
			must(notify.Send("MAINPID=" + strconv.Itoa(os.Getpid()) + "\nREADY=1"))
			select {}
		}
		_, err := syscall.ForkExec(self(), []string{"x", "play", "handover", args[1], "child"},
			&syscall.ProcAttr{Env: os.Environ(), Sys: &syscall.SysProcAttr{Setsid: true}})
		must(err)
		must(awaitFile(args[1])) // until the child is followed
	case "pings": // N: is ready, says N times that it lives, and then no more
		must(notify.Ready())
		n, err := strconv.Atoi(args[1])
		must(err)
		tick := time.Tick(50 * time.Millisecond)
		for range n {
			<-tick
			must(notify.Send("WATCHDOG=1"))
		}
		select {}
	case "stranger": // PATH: says READY to that socket
		os.Setenv(notify.Variable, args[1])
		must(notify.Ready())
		select {}
	case "term": // FILE NAME: on SIGTERM writes NAME to FILE
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		must(notify.Ready())
		<-c
		f, err := os.OpenFile(args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		must(err)
		fmt.Fprintln(f, args[2])
	}
}

// awaitFile returns once the file is there.
func awaitFile(path string) error {
	for range time.Tick(5 * time.Millisecond) {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func listen(text string) {
	l, err := net.FileListener(os.NewFile(3, "web"))
	must(err)
	for {
		conn, err := l.Accept()
		must(err)
		fmt.Fprintln(conn, text, os.Getpid())
		said, _ := io.ReadAll(conn)
		conn.Close()
		if string(said) == "die" {
			return
		}
	}
}

// store leaves an unlinked file with PID 1 in its first life, and reads it in the second.
func store(file string) {
	if os.Getenv("LISTEN_FDS") == "1" {
		data, err := io.ReadAll(io.NewSectionReader(os.NewFile(3, "kept"), 0, 100))
		must(err)
		must(os.WriteFile(file, append(data, os.Getenv("LISTEN_FDNAMES")...), 0o644))
	} else {
		f, err := os.CreateTemp("", "kept")
		must(err)
		must(os.Remove(f.Name()))
		f.WriteString("kept over a restart as ")
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		must(err)
		must(unix.Sendmsg(fd, []byte("FDSTORE=1\nFDNAME=memory"), unix.UnixRights(int(f.Fd())),
			&unix.SockaddrUnix{Name: os.Getenv(notify.Variable)}, 0))
	}
	must(notify.Ready())
	select {}
}

// rest leaves a FIFO with PID 1 in its first life. Each other life reads it once, and opens it again when it has ended.
func rest(fifo, file string) {
	must(notify.Ready())
	f := os.NewFile(3, fifo)
	if os.Getenv("LISTEN_FDS") == "1" {
		buf := make([]byte, 100)
		n, err := unix.Read(3, buf)
		must(err)
		said := buf[:n]
		if n == 0 {
			said = []byte("end.")
		}
		out, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		must(err)
		out.Write(said)
		if n > 0 {
			return
		}
	}
	fd, err := unix.Open(fifo, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	must(err)
	must(notify.Keep("fifo", fd))
	must(notify.Settle(testenv.Patience()))
	f.Close()
}

func exists(pid string) bool {
	_, err := os.Stat("/proc/" + pid + "/stat")
	return err == nil && pid != ""
}
