// Package sshroot does root's part of one ssh connection after the login: it starts shells, commands and the file
// server, opens terminals, ports and the agent's socket, and signs with the host key when the keys of the connection
// are renewed. It passes each as a descriptor to the process of the connection and copies no bytes itself. It never
// speaks with the client.
//
// Whoever has the other end of its socket is root: sshd passes the socket on only after the login (package sshaccess).
//
// Read first: Config, then Serve, then session.
package sshroot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"resinos/net/sshaccess"
	"resinos/net/sshmsg"
)

// Config describes the connection that root acts for.
type Config struct {
	HostKey ssh.Signer
	Shell   string // empty: "/bin/sh"
	Remote  string // address of the client, for the environment of its sessions
	Local   string // address at which it arrived
	Log     *slog.Logger
}

// maxTalks limits the conversations at a time; the process of the connection has lower limits.
const maxTalks = 256

// dialTimeout limits the time until a forwarded port answers.
const dialTimeout = 10 * time.Second

// root is the state for one connection.
type root struct {
	Config
	home    string
	revoked func() bool // the client may not be here any more
}

// ErrRevoked is the cause with which ctx is cancelled if the client may not be here any more: what it has running is
// killed, whatever it does about a hang-up.
var ErrRevoked = errors.New("the login counts no more")

// Serve carries out requests until main is closed or ctx is cancelled, and then hangs up everything that it has
// started. Processes that survive a hang-up, as with nohup, continue, unless the cause is ErrRevoked and they are still
// in the process group of their session. Serve closes main.
func Serve(ctx context.Context, cfg Config, main *sshmsg.Conn) {
	if cfg.Shell == "" {
		cfg.Shell = "/bin/sh"
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &root{Config: cfg, home: Home(), revoked: func() bool { return errors.Is(context.Cause(ctx), ErrRevoked) }}
	stop := context.AfterFunc(ctx, func() { main.Close() })
	defer stop()
	defer main.Close() // it may be closed already
	var talks sync.WaitGroup
	places := make(chan struct{}, maxTalks)
	for {
		packet, files, err := main.Receive(64)
		if err != nil {
			break // the connection is gone
		}
		var m sshmsg.Talk
		if len(files) != 1 || sshmsg.Read(packet, &m) != nil {
			sshmsg.CloseAll(files)
			continue
		}
		talk, err := sshmsg.Take(files[0])
		if err != nil {
			r.Log.Warn("request not accepted", "error", err)
			continue
		}
		select {
		case places <- struct{}{}:
			talks.Go(func() { r.talk(ctx, talk); <-places })
		default:
			talk.Close() // which informs the other side
		}
	}
	cancel()
	talks.Wait()
}

// talk serves one socket until it is closed or ctx is cancelled.
func (r *root) talk(ctx context.Context, talk *sshmsg.Conn) {
	defer talk.Close() // the other side has its answer
	stop := context.AfterFunc(ctx, func() { talk.Close() })
	defer stop()
	s := &session{root: r, talk: talk}
	defer s.end()
	for {
		packet, files, err := talk.Receive(sshmsg.Max)
		if err != nil {
			return
		}
		sshmsg.CloseAll(files)
		if err := r.answer(ctx, s, packet); err != nil {
			return // nobody reads the answer
		}
	}
}

// answer carries out one request. It fails if the answer cannot be sent.
func (r *root) answer(ctx context.Context, s *session, packet []byte) error {
	switch packet[0] {
	case sshmsg.KindSign:
		return read(s, packet, func(m sshmsg.Sign) error { return sshaccess.Sign(s.talk, r.HostKey, m) })
	case sshmsg.KindDial:
		return read(s, packet, func(m sshmsg.Dial) error { return dial(ctx, s.talk, m) })
	case sshmsg.KindListen:
		return read(s, packet, func(m sshmsg.Listen) error { return listen(ctx, s.talk, m) })
	case sshmsg.KindTerminal:
		return read(s, packet, s.openTerminal)
	case sshmsg.KindAgent:
		return s.openAgent()
	case sshmsg.KindStart:
		return read(s, packet, s.start)
	case sshmsg.KindFiles:
		return s.serveFiles()
	case sshmsg.KindSignal:
		return read(s, packet, func(m sshmsg.Signal) error {
			if s.process != nil {
				s.process.signal(m.Name)
			}
			return nil
		})
	}
	return s.talk.Refuse(fmt.Errorf("no request begins with %d", packet[0]))
}

// read decodes a message and passes it to do.
func read[T any](s *session, packet []byte, do func(T) error) error {
	var m T
	if err := sshmsg.Read(packet, &m); err != nil {
		return s.talk.Refuse(err)
	}
	return do(m)
}

func dial(ctx context.Context, talk *sshmsg.Conn, m sshmsg.Dial) error {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(m.Host, strconv.FormatUint(uint64(m.Port), 10)))
	if err != nil {
		return talk.Refuse(err)
	}
	defer conn.Close() // it is passed on
	return talk.Send(sshmsg.Done{}, conn.(*net.TCPConn))
}

// listen listens on both loopback addresses; the device may lack one of them.
func listen(ctx context.Context, talk *sshmsg.Conn, m sshmsg.Listen) error {
	if m.Port > 0xffff {
		return talk.Refuse(fmt.Errorf("listen: no port %d", m.Port))
	}
	var config net.ListenConfig
	first, err := config.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(m.Port))))
	if err != nil {
		return talk.Refuse(err)
	}
	defer first.Close() // it is passed on
	port := first.Addr().(*net.TCPAddr).Port
	files := []syscall.Conn{first.(*net.TCPListener)}
	if second, err := config.Listen(ctx, "tcp", net.JoinHostPort("::1", strconv.Itoa(port))); err == nil {
		defer second.Close() // as above
		files = append(files, second.(*net.TCPListener))
	}
	return talk.Send(sshmsg.Listening{Port: uint32(port)}, files...)
}

// variables returns the environment of a login, with the variables that the client adds.
func (s *session) variables(theirs string) []string {
	env := []string{
		"PATH=" + searchPath,
		"HOME=" + s.home,
		"USER=root",
		"LOGNAME=root",
		"SHELL=" + s.Shell,
	}
	remote, remotePort, _ := net.SplitHostPort(s.Remote) // empty if it is not such an address
	local, localPort, _ := net.SplitHostPort(s.Local)
	env = append(env, fmt.Sprintf("SSH_CLIENT=%s %s %s", remote, remotePort, localPort),
		fmt.Sprintf("SSH_CONNECTION=%s %s %s %s", remote, remotePort, local, localPort))
	if s.terminal != nil {
		env = append(env, "TERM="+s.terminal.kind, "SSH_TTY="+s.terminal.slave.Name())
	}
	if s.agent != "" {
		env = append(env, "SSH_AUTH_SOCK="+agentSocket(s.agent))
	}
	for variable := range strings.SplitSeq(theirs, "\x00") {
		if variable != "" {
			env = append(env, variable)
		}
	}
	return env
}

// Home returns root's home directory: /home/root in images that follow resinOS.
func Home() string {
	for _, dir := range []string{"/home/root", "/root"} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	return "/"
}

var errStarted = errors.New("something has been started already")
