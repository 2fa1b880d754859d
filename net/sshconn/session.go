package sshconn

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/creack/pty"
	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// The limits on what one session may ask for before it starts.
const (
	maxEnviron  = 64
	maxVariable = 4096
)

// session is one channel of type "session": a few requests that prepare it, one that starts a process, and then the
// process until it ends or the client hangs up.
type session struct {
	*connection
	channel  ssh.Channel
	environ  []string
	terminal *terminal // nil: none was asked for
	agent    *agent    // nil: none was asked for
	process  *process  // nil: nothing runs yet
	running  sync.WaitGroup
}

// session serves one session channel.
func (c *connection) session(ctx context.Context, ch ssh.NewChannel) {
	channel, requests, err := ch.Accept()
	if err != nil {
		return // the client is gone
	}
	x := &session{connection: c, channel: channel}
	for r := range requests { // ends with the channel
		ok := x.request(ctx, r)
		if r.WantReply {
			r.Reply(ok, nil) // an error means that the client is gone
		}
		if ok {
			x.began(r.Type)
		}
	}
	if x.process != nil {
		x.process.hangUp()
	}
	x.running.Wait()
	x.terminal.close()
	x.agent.close()
}

// request does what one request asks for, and reports whether it could.
func (x *session) request(ctx context.Context, r *ssh.Request) bool {
	started := x.process != nil
	switch r.Type {
	case "env":
		return !started && x.variable(r.Payload)
	case "pty-req":
		return !started && x.terminal == nil && x.openTerminal(r.Payload)
	case "auth-agent-req@openssh.com":
		return !started && x.agent == nil && x.openAgentSocket(ctx)
	case "window-change":
		size, ok := parseWindow(r.Payload)
		return ok && x.terminal.resize(size)
	case "signal":
		var p struct{ Name string }
		return started && ssh.Unmarshal(r.Payload, &p) == nil && x.process.signal(p.Name)
	case "shell":
		return !started && x.start("")
	case "exec":
		var p struct{ Command string }
		return !started && ssh.Unmarshal(r.Payload, &p) == nil && x.start(p.Command)
	case "subsystem":
		var p struct{ Name string }
		return !started && ssh.Unmarshal(r.Payload, &p) == nil && p.Name == "sftp" && x.reserve()
	}
	return false
}

// began lets data flow once the client knows that its request was granted.
func (x *session) began(request string) {
	switch request {
	case "shell", "exec":
		x.running.Go(func() { x.process.feed(x.channel) })
		x.running.Go(func() { x.finish(x.process.serve(x.channel)) })
	case "subsystem":
		x.running.Go(x.sftp)
	}
}

// variable takes an environment variable. Only those of the locale are: others could change what the shell is.
func (x *session) variable(payload []byte) bool {
	var p struct{ Name, Value string }
	if ssh.Unmarshal(payload, &p) != nil || len(x.environ) >= maxEnviron || len(payload) > maxVariable {
		return false
	}
	if p.Name != "LANG" && p.Name != "TZ" && p.Name != "COLORTERM" && !strings.HasPrefix(p.Name, "LC_") {
		return false
	}
	if strings.ContainsAny(p.Name, "=\x00") || strings.Contains(p.Value, "\x00") {
		return false
	}
	x.environ = append(x.environ, p.Name+"="+p.Value)
	return true
}

func (x *session) openAgentSocket(ctx context.Context) bool {
	a, err := x.openAgent(ctx)
	if err != nil {
		x.log.Warn("agent of the client not reachable", "error", err)
		return false
	}
	x.agent = a
	return true
}

func (x *session) openTerminal(payload []byte) bool {
	t, err := openTerminal(payload)
	if err != nil {
		x.log.Warn("terminal not opened", "error", err)
		return false
	}
	x.terminal = t
	return true
}

// start starts a command, or a login shell if there is none. If the shell itself cannot be started, the session says
// so and ends as a shell would.
func (x *session) start(command string) bool {
	p, err := startProcess(x.cfg.Shell, command, x.home, x.variables(), x.terminal)
	if err != nil {
		x.log.Error("shell not started", "error", err)
		p = failedProcess(fmt.Sprintf("%v\n", err))
	}
	x.process = p
	return true
}

// variables is the environment of a login.
func (x *session) variables() []string {
	env := []string{
		"PATH=" + searchPath,
		"HOME=" + x.home,
		"USER=root",
		"LOGNAME=root",
		"SHELL=" + x.cfg.Shell,
	}
	remote, remotePort, _ := net.SplitHostPort(x.client.RemoteAddr().String()) // empty if it is no such address
	local, localPort, _ := net.SplitHostPort(x.client.LocalAddr().String())
	env = append(env, fmt.Sprintf("SSH_CLIENT=%s %s %s", remote, remotePort, localPort),
		fmt.Sprintf("SSH_CONNECTION=%s %s %s %s", remote, remotePort, local, localPort))
	if x.terminal != nil {
		env = append(env, "TERM="+x.terminal.kind, "SSH_TTY="+x.terminal.slave.Name())
	}
	if x.agent != nil {
		env = append(env, "SSH_AUTH_SOCK="+x.agent.path())
	}
	return append(env, x.environ...)
}

// finish tells the client how the process ended, after all of its output.
func (x *session) finish(end ended) {
	x.channel.CloseWrite() // errors here and below mean that the client is gone
	if end.signal != "" {
		x.channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Signal  string
			Core    bool
			Message string
			Lang    string
		}{Signal: end.signal, Core: end.core}))
	} else {
		x.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(end.status)}))
	}
	x.channel.Close()
}

// reserve keeps a second process from being started beside the file server.
func (x *session) reserve() bool {
	x.process = &process{}
	return true
}

// sftp serves files from inside this process until the client closes the channel.
func (x *session) sftp() {
	server, err := sftp.NewServer(x.channel, sftp.WithServerWorkingDirectory(x.home))
	if err == nil {
		err = server.Serve()
	}
	end := ended{}
	if err != nil && err != io.EOF {
		x.log.Warn("sftp ended", "error", err)
		end.status = 1
	}
	x.finish(end)
}

// terminal is the pty of a session.
type terminal struct {
	master, slave *os.File
	kind          string // TERM
}

// resize tells the terminal its size. A session without one has nothing to resize.
func (t *terminal) resize(size pty.Winsize) bool {
	return t != nil && pty.Setsize(t.master, &size) == nil
}

// close hangs up whoever still has the terminal.
func (t *terminal) close() {
	if t != nil {
		t.master.Close() // closed twice is closed
		t.slave.Close()  // as above
	}
}
