package sshroot

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pkg/sftp"
	"golang.org/x/sys/unix"

	"resinos/net/sshmsg"
)

// session is what the requests on one socket have created: what prepares a program, then the program.
type session struct {
	*root
	talk     *sshmsg.Conn
	terminal *terminal // nil: none was requested. The process of the connection has its master
	agent    string    // directory of the agent's socket; empty: none was requested
	process  *process  // nil: nothing runs yet
	files    net.Conn  // the file server's stream; nil: it does not run
}

// end hangs up what was started. What survives that continues.
func (s *session) end() {
	if s.process != nil {
		s.process.hangUp(s.revoked())
	}
	if s.files != nil {
		s.files.Close() // ends the server
	}
	s.terminal.close()
	if s.agent != "" {
		_ = os.RemoveAll(s.agent) // on a tmpfs; what is left there goes with the next boot
	}
}

func (s *session) openTerminal(m sshmsg.Terminal) error {
	if s.terminal != nil || s.process != nil {
		return s.talk.Refuse(errStarted)
	}
	t, err := openTerminal(m.Request)
	if err != nil {
		return s.talk.Refuse(err)
	}
	s.terminal = t
	defer t.master.Close() // it is passed on; when the connection closes it, the terminal hangs up
	return s.talk.Send(sshmsg.Done{}, t.master)
}

func agentPrefix(pid int) string { return fmt.Sprintf("ssh-%d-", pid) }

// Clean removes what root's process with this number has left behind if it was killed. No later process with this
// number can have started so soon.
func Clean(pid int) {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), agentPrefix(pid)+"*")) // fails only for a bad pattern
	for _, dir := range dirs {
		_ = os.RemoveAll(dir) // on a tmpfs; what is left there goes with the next boot
	}
}

func agentSocket(dir string) string { return filepath.Join(dir, "agent") }

// openAgent creates a socket in a directory of its own, which only root can enter. While the session lasts, everybody
// who is root on the device can use the client's keys through it, as with every server.
func (s *session) openAgent() error {
	if s.agent != "" || s.process != nil {
		return s.talk.Refuse(errStarted)
	}
	dir, err := os.MkdirTemp("", agentPrefix(os.Getpid()))
	if err != nil {
		return s.talk.Refuse(fmt.Errorf("open agent socket: %w", err))
	}
	s.agent = dir
	l, err := net.Listen("unix", agentSocket(dir))
	if err != nil {
		return s.talk.Refuse(fmt.Errorf("open agent socket: %w", err))
	}
	socket := l.(*net.UnixListener)
	socket.SetUnlinkOnClose(false)
	defer socket.Close() // it is passed on
	return s.talk.Send(sshmsg.Done{}, socket)
}

// start starts a command, or a login shell if there is none, and reports how it ended.
func (s *session) start(m sshmsg.Start) error {
	if s.process != nil || s.files != nil {
		return s.talk.Refuse(errStarted)
	}
	p, err := startProcess(s.Shell, m.Command, s.home, s.variables(m.Environ), s.terminal)
	if err != nil {
		s.Log.Error("shell not started", "error", err)
		return s.talk.Refuse(err)
	}
	s.process = p
	var files []syscall.Conn
	for _, f := range p.ours {
		files = append(files, f)
	}
	err = s.talk.Send(sshmsg.Done{}, files...)
	sshmsg.CloseAll(p.ours)
	go func() { // outlives the session if the process does
		end := p.wait()
		s.talk.Send(end) // an error means that the connection is gone
	}()
	return err
}

// serveFiles serves files by sftp from within this process, until the connection closes the stream.
func (s *session) serveFiles() error {
	if s.process != nil || s.files != nil {
		return s.talk.Refuse(errStarted)
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return s.talk.Refuse(os.NewSyscallError("socketpair", err))
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "files"), os.NewFile(uintptr(ends[1]), "files")
	defer ours.Close()   // the stream has its own
	defer theirs.Close() // it is passed on
	stream, err := net.FileConn(ours)
	if err != nil {
		return s.talk.Refuse(err)
	}
	s.files = stream
	if err := s.talk.Send(sshmsg.Done{}, theirs); err != nil {
		return err
	}
	go func() { // ends with the stream
		defer stream.Close() // everything has been written
		var end sshmsg.Ended
		server, err := sftp.NewServer(stream, sftp.WithServerWorkingDirectory(s.home))
		if err == nil {
			err = server.Serve()
		}
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
			s.Log.Warn("sftp ended", "error", err)
			end.Status = 1
		}
		s.talk.Send(end) // an error means that the connection is gone
	}()
	return nil
}
