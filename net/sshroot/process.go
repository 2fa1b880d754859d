package sshroot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"resinos/net/sshmsg"
	"resinos/services/oomscore"
)

// process is the program of a session. Nothing else in this process waits for children, so os/exec is safe here,
// although only services/proc forks in PID 1.
type process struct {
	cmd  *exec.Cmd
	ours []*os.File // the other ends of its input, output and error output, to be passed on; none with a terminal

	mu     sync.Mutex // guards reaped
	reaped bool       // its number may belong to another process
}

// startProcess starts command in a shell, or a login shell, as the leader of a session of its own.
func startProcess(shell, command, home string, env []string, t *terminal) (*process, error) {
	cmd, err := program(shell, command)
	if err != nil {
		return nil, err
	}
	cmd.Env, cmd.Dir = env, home
	// If this process is killed, nobody else would hang the program up. The signal is bound to a thread, but Go's
	// threads live as long as the process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGHUP}
	p := &process{cmd: cmd}
	if t != nil {
		err = p.startOn(t)
	} else {
		err = p.startPiped()
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// program returns the command to execute. A production device has no shell: there the command names a program.
func program(shell, command string) (*exec.Cmd, error) {
	cmd := exec.Command(shell)
	_, err := os.Stat(shell)
	switch {
	case err == nil && command == "":
		cmd.Args = []string{"-" + filepath.Base(shell)} // the dash makes the shell read the profile
		return cmd, nil
	case err == nil:
		cmd.Args = []string{filepath.Base(shell), "-c", command}
		return cmd, nil
	case command == "":
		return nil, fmt.Errorf("start a shell: %w: name a command instead, as osctl status", err)
	}
	words, err := splitWords(command)
	if err != nil {
		return nil, err
	}
	path, err := lookUp(words[0])
	if err != nil {
		return nil, err
	}
	cmd = exec.Command(path)
	cmd.Args = words
	return cmd, nil
}

// searchPath is the PATH of sessions.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookUp finds a program by its name in searchPath, which differs from our own PATH.
func lookUp(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(searchPath) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: not found, and this device has no shell", name)
}

// born starts the process. A session must not have the server's OOM score, not even for a moment.
func (p *process) born() error { return oomscore.Born(0, p.cmd.Start) }

func (p *process) startOn(t *terminal) error {
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = t.slave, t.slave, t.slave
	p.cmd.SysProcAttr.Setctty = true // descriptor 0 becomes the controlling terminal
	if err := p.born(); err != nil {
		return err
	}
	return t.slave.Close() // as long as we hold it, the end of its last user cannot be seen
}

// startPiped gives the process three pipes. They are not those of exec, which closes its pipes when the process ends,
// even if not everything has been read.
func (p *process) startPiped() error {
	var theirs, ours [3]*os.File
	closeAll := func(files [3]*os.File) {
		for _, f := range files {
			if f != nil {
				f.Close() // nothing has been written to it
			}
		}
	}
	for i := range theirs {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(theirs)
			closeAll(ours)
			return err
		}
		theirs[i], ours[i] = w, r
	}
	theirs[0], ours[0] = ours[0], theirs[0]
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirs[0], theirs[1], theirs[2]
	err := p.born()
	closeAll(theirs)
	if err != nil {
		closeAll(ours)
		return err
	}
	p.ours = ours[:]
	return nil
}

// wait returns how the process ended. It first waits without reaping it, so that nobody can send a signal to a number
// that is free again.
func (p *process) wait() sshmsg.Ended {
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break // Wait reports any other error
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reaped = true
	p.cmd.Wait() // says nothing that ProcessState does not
	return endOf(p.cmd.ProcessState)
}

// hangUp informs the process that its client is gone: the terminal is closed, which sends SIGHUP to its foreground
// processes, and SIGHUP goes to the process group, or SIGKILL too. What detached itself with setsid or nohup continues.
func (p *process) hangUp(kill bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		unix.Kill(-p.cmd.Process.Pid, unix.SIGHUP) // a process that is not reaped has a group
		if kill {
			unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL) // as above
		}
	}
}

// signals are the names that RFC 4254, 6.10 allows, and two more that people use.
var signals = [...]struct {
	name   string
	number syscall.Signal
}{
	{"ABRT", unix.SIGABRT}, {"ALRM", unix.SIGALRM}, {"FPE", unix.SIGFPE}, {"HUP", unix.SIGHUP}, {"ILL", unix.SIGILL},
	{"INT", unix.SIGINT}, {"KILL", unix.SIGKILL}, {"PIPE", unix.SIGPIPE}, {"QUIT", unix.SIGQUIT},
	{"SEGV", unix.SIGSEGV}, {"TERM", unix.SIGTERM}, {"USR1", unix.SIGUSR1}, {"USR2", unix.SIGUSR2},
	{"WINCH", unix.SIGWINCH}, {"CONT", unix.SIGCONT},
}

// signal sends the named signal to the process and its group.
func (p *process) signal(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range signals {
		if s.name == name && !p.reaped {
			unix.Kill(-p.cmd.Process.Pid, s.number) // a process not reaped has a group
		}
	}
}

func endOf(state *os.ProcessState) sshmsg.Ended {
	if state == nil {
		return sshmsg.Ended{Status: 255} // cannot happen: Wait is called once, on a started process
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	if !ok || !ws.Signaled() {
		return sshmsg.Ended{Status: uint32(state.ExitCode())}
	}
	for _, s := range signals {
		if s.number == ws.Signal() {
			return sshmsg.Ended{Signal: s.name, Core: ws.CoreDump()}
		}
	}
	return sshmsg.Ended{Status: 128 + uint32(ws.Signal())}
}
