package confine

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// scenes are attacks and chores that a shell cannot do. Each prints what came of it; "done" is the kernel's consent.
var scenes = map[string]func() error{
	"mount":       func() error { return unix.Mount("none", "/mnt", "tmpfs", 0, "") },
	"open-tree":   func() error { _, err := unix.OpenTree(unix.AT_FDCWD, "/mnt", unix.OPEN_TREE_CLONE); return err },
	"unshare":     func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
	"clone-newns": func() error { return forkWith(unix.CLONE_NEWUTS) },
	"fork":        func() error { return forkWith(0) },
	"clone3":      func() error { return plain(unix.SYS_CLONE3, 0, 0, 0) },
	"personality": func() error { return plain(unix.SYS_PERSONALITY, 0x0040000, 0, 0) }, // ADDR_NO_RANDOMIZE
	"linux":       func() error { return plain(unix.SYS_PERSONALITY, 0xFFFFFFFF, 0, 0) },
	"reboot":      func() error { return unix.Reboot(0x12345) }, // no such command: EINVAL when allowed
	"clock":       func() error { return plain(unix.SYS_CLOCK_SETTIME, 99, 0, 0) },
	"ptrace":      func() error { return plain(unix.SYS_PTRACE, 0xFFFF, 1, 0) },
	"keyctl":      func() error { return plain(unix.SYS_KEYCTL, 0, ^uintptr(2), 0) },
	"bpf":         func() error { return plain(unix.SYS_BPF, 0xFFFF, 0, 0) },
	"module":      func() error { return plain(unix.SYS_DELETE_MODULE, 0, 0, 0) },
	"sethostname": func() error { return plain(unix.SYS_SETHOSTNAME, 1, ^uintptr(0)>>1, 0) },
	"vsock":       func() error { return socket(unix.AF_VSOCK) },
	"packet":      func() error { return socket(unix.AF_PACKET) },
	"unlink":      func() error { return unix.Unlink("/nowhere") },
	"chmod":       func() error { return unix.Chmod("/nowhere", 0o777) },
	"raise":       raise,
	"setuid":      func() error { return plain(unix.SYS_SETUID, 0, 0, 0) },
	"ids":         func() error { fmt.Print(unix.Getuid(), " ", unix.Geteuid(), " "); return nil },
	"daemon":      daemon,
	"umount":      func() error { return unix.Unmount("/tmp", unix.MNT_DETACH) },
	"foreign":     foreign,
	"open-files":  openFiles,
	"threads":     threads,
	"exec": func() error {
		return syscall.Exec(busybox, []string{busybox, "grep", "CapPrm", "/proc/self/status"}, nil)
	},
	"write":        func() error { return os.WriteFile(os.Getenv("AT"), nil, 0o600) },
	"orders":       func() error { fmt.Print(os.Getenv(Variable), os.Getenv("LISTEN_FDS"), " "); return nil },
	"remount-read": func() error { return unix.Mount("", os.Getenv("AT"), "", unix.MS_REMOUNT|unix.MS_BIND, "") },
}

func play(name string) int {
	err := scenes[name]()
	switch {
	case errors.Is(err, unix.EPERM):
		fmt.Println("EPERM")
	case err != nil:
		fmt.Println(err)
	default:
		fmt.Println("done")
	}
	return 0
}

func plain(call, a, b, c uintptr) error {
	if _, _, errno := unix.Syscall(call, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

func socket(family int) error {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func forkWith(flags uintptr) error {
	pid, err := syscall.ForkExec(busybox, []string{"true"},
		&syscall.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: flags}})
	if err != nil {
		return err
	}
	_, err = syscall.Wait4(pid, nil, 0, nil)
	return err
}

// raise asks for every capability there is.
func raise() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	all := ^uint32(0)
	data := [2]unix.CapUserData{{Effective: all, Permitted: all}, {Effective: 0x1ff, Permitted: 0x1ff}}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return err
	}
	return nil
}

// daemon is what a network service does: threads, timers, a listener, a connection, a file.
func daemon() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err == nil {
				io.WriteString(conn, "hello")
				conn.Close()
			}
		})
	}
	for range 4 {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		if text, err := io.ReadAll(conn); err != nil || string(text) != "hello" {
			return fmt.Errorf("read %q: %w", text, err)
		}
	}
	all.Wait()
	for range 20 { // new threads: each blocks in a call
		all.Go(func() { unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil) })
	}
	all.Wait()
	time.Sleep(time.Millisecond) // sleep: it is allowed, too
	_, err = os.ReadFile("/etc/passwd")
	return err
}

// openFiles prints the descriptors that came with the program; those that its own runtime opens are closed on exec.
func openFiles() error {
	for fd := range 1024 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fmt.Print(fd, " ")
		}
	}
	fmt.Print(os.Getenv("LISTEN_FDS"), " ", os.Getenv("LISTEN_FDNAMES"), " ")
	if os.Getenv("LISTEN_PID") == fmt.Sprint(os.Getpid()) {
		fmt.Print("mine ")
	}
	return nil
}
