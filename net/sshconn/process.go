package sshconn

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"resinos/services/oomscore"
)

// process is the program of a session. sshd is a process of its own with no other waiter in it, so os/exec is right
// here although only services/proc forks in PID 1.
type process struct {
	cmd    *exec.Cmd
	stdin  *os.File // our ends; with a terminal, both are its master
	stdout *os.File
	stderr *os.File
	fault  string        // why there is no process
	gone   chan struct{} // closed by hangUp

	mu     sync.Mutex // guards reaped
	reaped bool       // its number may belong to another process by now
}

// ended says how a process ended.
type ended struct {
	status int
	signal string // as ssh names it, without SIG; empty: it ended by itself
	core   bool
}

// drainTime is how long we read on from a terminal whose shell has ended: the kernel hangs it up, so what is left
// there is at most a few kilobytes.
const drainTime = 2 * time.Second

// startProcess starts command in a shell, or a login shell, as the leader of a session of its own.
func startProcess(shell, command, home string, env []string, t *terminal) (*process, error) {
	cmd, err := program(shell, command)
	if err != nil {
		return nil, err
	}
	cmd.Env, cmd.Dir = env, home
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p := &process{cmd: cmd, gone: make(chan struct{})}
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

// program is what runs command. A production device has no shell: there it is the program that the command names.
func program(shell, command string) (*exec.Cmd, error) {
	cmd := exec.Command(shell)
	_, err := os.Stat(shell)
	switch {
	case err == nil && command == "":
		cmd.Args = []string{"-" + filepath.Base(shell)} // the dash makes it read the profile
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

// searchPath is where sessions find programs.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookUp finds a program by its name. Ours is another search path than that of the session.
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

// failedProcess stands for one that could not be started; it ends like a shell that finds no command.
func failedProcess(why string) *process { return &process{fault: why, gone: make(chan struct{})} }

// born starts the process. A session must not have the server's protection when memory runs out, not for a moment.
func (p *process) born() error { return oomscore.Born(0, p.cmd.Start) }

func (p *process) startOn(t *terminal) error {
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = t.slave, t.slave, t.slave
	p.cmd.SysProcAttr.Setctty = true // descriptor 0 becomes the controlling terminal
	if err := p.born(); err != nil {
		return err
	}
	p.stdin, p.stdout = t.master, t.master
	return t.slave.Close() // as long as we hold it, the end of the last holder cannot be seen
}

// startPiped gives the process three pipes. They are ours and not exec's, because exec closes its own when the
// process ends, whether all has been read or not.
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
	p.stdin, p.stdout, p.stderr = ours[0], ours[1], ours[2]
	return nil
}

// serve carries bytes between the channel and the process until the process has ended and all of its output has been
// sent. As with other servers, a process left in the background keeps the session open if it keeps its output.
func (p *process) serve(channel ssh.Channel) ended {
	if p.fault != "" {
		io.WriteString(channel.Stderr(), p.fault) // an error means that the client is gone
		return ended{status: 127}
	}
	var output sync.WaitGroup
	output.Go(func() { io.Copy(channel, p.stdout) })
	if p.stderr != nil {
		output.Go(func() { io.Copy(channel.Stderr(), p.stderr) })
	}
	drained := make(chan struct{})
	go func() { output.Wait(); close(drained) }()
	end := p.wait()
	p.drain(drained)
	p.close()
	<-drained
	return end
}

// wait returns how the process ended. It first waits without taking the status, so that nobody can send a signal to
// a number that is free again.
func (p *process) wait() ended {
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break // any other error is Wait's to tell
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reaped = true
	p.cmd.Wait() // says nothing that ProcessState does not
	return endOf(p.cmd.ProcessState)
}

// drain waits for the rest of the output, but not longer than it can make sense.
func (p *process) drain(drained <-chan struct{}) {
	var late <-chan time.Time
	if p.stderr == nil {
		late = time.After(drainTime)
	}
	select {
	case <-drained:
	case <-p.gone:
	case <-late:
	}
}

// feed carries the client's bytes to the process until the channel ends. The end of a pipe ends the input; a terminal
// has no end, the client sends its end-of-file character.
func (p *process) feed(channel ssh.Channel) {
	if p.stdin == nil {
		return
	}
	io.Copy(p.stdin, channel) // it ends when the process does not read any more, too
	if p.stderr != nil {
		p.stdin.Close() // nothing is buffered in it
	}
	io.Copy(io.Discard, channel)
}

func (p *process) close() {
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
		if f != nil {
			f.Close() // two of them may be one; nothing is buffered
		}
	}
}

// hangUp tells the process that its client is gone: the terminal is taken away, which sends SIGHUP to those in its
// foreground, and SIGHUP goes to the process's own group. What set itself apart with setsid or nohup lives on.
func (p *process) hangUp() {
	if p.cmd == nil {
		return
	}
	p.mu.Lock()
	if !p.reaped {
		unix.Kill(-p.cmd.Process.Pid, unix.SIGHUP) // a process not reaped has a group
	}
	p.mu.Unlock()
	close(p.gone)
	p.close()
}

// signals are the names that RFC 4254, 6.10 allows, and two that people use.
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
func (p *process) signal(name string) bool {
	if p.cmd == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range signals {
		if s.name == name && !p.reaped {
			return unix.Kill(-p.cmd.Process.Pid, s.number) == nil
		}
	}
	return false
}

func endOf(state *os.ProcessState) ended {
	if state == nil {
		return ended{status: 255} // cannot be: Wait was called once, on a started process
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	if !ok || !ws.Signaled() {
		return ended{status: state.ExitCode()}
	}
	for _, s := range signals {
		if s.number == ws.Signal() {
			return ended{signal: s.name, core: ws.CoreDump()}
		}
	}
	return ended{status: 128 + int(ws.Signal())}
}
