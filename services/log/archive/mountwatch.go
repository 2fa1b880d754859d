package archive

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A mountWatch gets an event from the kernel when something is mounted or unmounted: poll(2) on mountinfo returns
// POLLPRI (proc_pid_mountinfo(5)). It is an epoll inside the Go runtime's, so that waiting holds no thread.
type mountWatch struct {
	table, epoll *os.File
	changed      chan struct{} // closed by wait at the first change, or when the watch is closed
}

// watchMounts begins to watch. Changes from now on count. The caller closes it, which ends the goroutine that waits.
func watchMounts() (*mountWatch, error) {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("watch mounts: %w", err)
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, int(table.Fd()), &unix.EpollEvent{Events: unix.EPOLLPRI})
	}
	if err == nil {
		err = unix.SetNonblock(fd, true) // otherwise the runtime cannot wait for it
	}
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, errors.Join(fmt.Errorf("watch mounts: %w", err), table.Close())
	}
	w := &mountWatch{table, os.NewFile(uintptr(fd), "epoll"), make(chan struct{})}
	go w.wait()
	return w, nil
}

// wait ends at the first change, or when the epoll is closed; a spurious end costs one look at the mounts. It does not
// ask the inner epoll what has happened: mountinfo reports each change to one poll only, which was the runtime's.
func (w *mountWatch) wait() {
	defer close(w.changed)
	conn, err := w.epoll.SyscallConn()
	if err != nil {
		return
	}
	woken := false
	_ = conn.Read(func(uintptr) bool {
		was := woken
		woken = true
		return was
	})
}

func (w *mountWatch) close() {
	w.epoll.Close()
	<-w.changed
	w.table.Close()
}
