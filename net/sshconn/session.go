package sshconn

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"

	"resinos/net/sshmsg"
)

// The limits for one session before it starts.
const (
	maxEnviron  = 64
	maxVariable = 4096
)

// session is one channel of type "session": requests that prepare it, one request that starts a process, and then the
// process until it ends or the client hangs up.
type session struct {
	*connection
	channel  ssh.Channel
	talk     *sshmsg.Conn // with root's process; closing it hangs up what runs
	environ  []string
	terminal *os.File // the master; nil: none was requested
	agent    *agent   // nil: none was requested
	process  *process // nil: nothing runs yet
	running  sync.WaitGroup
}

// session serves one session channel.
func (c *connection) session(ctx context.Context, ch ssh.NewChannel) {
	talk, err := c.gate.talk()
	if err != nil {
		ch.Reject(ssh.ResourceShortage, "no session can be started") // an error means that the client is gone
		return
	}
	defer talk.Close() // closed twice is closed
	channel, requests, err := ch.Accept()
	if err != nil {
		return // the client is gone
	}
	x := &session{connection: c, channel: channel, talk: talk}
	for r := range requests { // ends with the channel
		ok := x.request(ctx, r)
		if r.WantReply {
			r.Reply(ok, nil) // an error means that the client is gone
		}
		if ok {
			x.began(r.Type)
		}
	}
	talk.Close()
	x.process.hangUp()
	x.running.Wait()
	if x.terminal != nil {
		x.terminal.Close() // closed twice is closed
	}
	x.agent.close()
}

// request carries out one request, and reports whether it succeeded.
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
		return ok && x.terminal != nil && pty.Setsize(x.terminal, &size) == nil
	case "signal":
		var p struct{ Name string }
		return started && ssh.Unmarshal(r.Payload, &p) == nil && x.talk.Send(sshmsg.Signal{Name: p.Name}) == nil
	case "shell":
		return !started && x.start("")
	case "exec":
		var p struct{ Command string }
		return !started && ssh.Unmarshal(r.Payload, &p) == nil && x.start(p.Command)
	case "subsystem":
		var p struct{ Name string }
		return !started && ssh.Unmarshal(r.Payload, &p) == nil && p.Name == "sftp" && x.startFiles()
	}
	return false
}

// began lets data flow once the client knows that its request was granted.
func (x *session) began(request string) {
	switch request {
	case "shell", "exec", "subsystem":
		x.running.Go(func() { x.process.feed(x.channel) })
		x.running.Go(func() { x.finish(x.process.serve(x.channel)) })
	}
}

// variable accepts an environment variable. Only those of the locale are accepted: others could change how the shell
// works.
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
	files, err := x.talk.Ask(sshmsg.Agent{}, &sshmsg.Done{}, 1)
	if err == nil {
		x.agent, err = x.serveAgent(ctx, files[0])
	}
	if err != nil {
		x.log.Warn("agent of the client not reachable", "error", err)
	}
	return err == nil
}

func (x *session) openTerminal(payload []byte) bool {
	files, err := x.talk.Ask(sshmsg.Terminal{Request: payload}, &sshmsg.Done{}, 1)
	if err != nil {
		x.log.Warn("terminal not opened", "error", err)
		return false
	}
	x.terminal = files[0]
	return true
}

// start starts a command, or a login shell if there is none. If it cannot be started, the session reports that and ends
// as a shell would.
func (x *session) start(command string) bool {
	question := sshmsg.Start{Command: command}
	for _, variable := range x.environ {
		question.Environ += variable + "\x00"
	}
	count := 3
	if x.terminal != nil {
		count = 0
	}
	files, err := x.talk.Ask(question, &sshmsg.Done{}, count)
	switch {
	case err != nil:
		x.process = failedProcess(fmt.Sprintf("%v\n", err))
	case x.terminal != nil:
		x.process = &process{talk: x.talk, stdin: x.terminal, stdout: x.terminal, tty: true, gone: make(chan struct{})}
	default:
		x.process = &process{talk: x.talk, stdin: files[0], stdout: files[1], stderr: files[2],
			gone: make(chan struct{})}
	}
	return true
}

// startFiles starts the file server.
func (x *session) startFiles() bool {
	files, err := x.talk.Ask(sshmsg.Files{}, &sshmsg.Done{}, 1)
	var stream halfConn
	if err == nil {
		stream, err = tcpOf(files[0])
	}
	if err != nil {
		x.log.Warn("sftp not started", "error", err)
		return false
	}
	x.process = &process{talk: x.talk, stdin: stream, stdout: stream, gone: make(chan struct{})}
	return true
}

// finish reports to the client how the process ended, after all of its output.
func (x *session) finish(end sshmsg.Ended) {
	x.channel.CloseWrite() // errors here and below mean that the client is gone
	if end.Signal != "" {
		x.channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Signal  string
			Core    bool
			Message string
			Lang    string
		}{Signal: end.Signal, Core: end.Core}))
	} else {
		x.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{end.Status}))
	}
	x.channel.Close()
}

// parseWindow reads a "window-change" request (RFC 4254, 6.7).
func parseWindow(payload []byte) (pty.Winsize, bool) {
	var p struct{ Columns, Rows, Width, Height uint32 }
	err := ssh.Unmarshal(payload, &p)
	const most = 0xffff // the largest that the kernel accepts
	return pty.Winsize{
		Cols: uint16(min(p.Columns, most)), Rows: uint16(min(p.Rows, most)), X: uint16(min(p.Width, most)),
		Y: uint16(min(p.Height, most)),
	}, err == nil
}
