package vpn

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"resinos/mounts/atomicfile"
	"resinos/net/assignment"
	"resinos/net/openvpn"
)

// Phase is what a tunnel does.
type Phase string

// The phases.
const (
	Waiting    Phase = "waits" // for its next try
	Connecting Phase = "connecting"
	Connected  Phase = "connected"
	Refused    Phase = "refused" // the profile cannot be used as it is
)

// State is what is known of one tunnel.
type State struct {
	Phase  Phase
	Server string          // that it speaks with
	Reason string          // why it is not connected; empty: nothing is wrong
	Up     *openvpn.Pushed // nil: the link is not there
	Tunnel openvpn.Tunnel
}

// Words says in a line what the tunnel does.
func (s State) Words() string {
	if s.Phase == Connected && s.Tunnel.Port != 0 {
		return fmt.Sprintf("serves at UDP port %d", s.Tunnel.Port)
	}
	text := string(s.Phase)
	if s.Phase == Connected && s.Server != "" {
		text += " to " + s.Server
	}
	if s.Reason != "" && s.Phase != Connected {
		text += ": " + s.Reason
	}
	return text
}

// errNotWanted ends a tunnel that no profile asks for any more: openvpn ends too.
var errNotWanted = errors.New("no profile asks for the tunnel any more")

// The times of a tunnel.
const (
	firstPause    = time.Second // after openvpn has ended; doubles up to lastPause
	lastPause     = time.Minute
	refusedPause  = 10 * time.Second // the same after a password was refused, up to lastRefused: accounts get locked
	lastRefused   = 5 * time.Minute
	dialEvery     = 200 * time.Millisecond
	startLimit    = 3 * time.Minute // for the management socket of an earlier netd's openvpn, on a slow device
	silentLimit   = time.Minute     // after it the link of a tunnel that is down goes: its server can be looked up
	faultPause    = time.Minute     // until a profile is read again whose certificate is missing
	commandWithin = 5 * time.Second
	passwordRank  = 9 // causes of this rank are about secrets
)

// tunnel keeps one openvpn running. Its goroutine is run.
type tunnel struct {
	entry  assignment.Entry
	dir    string // of this tunnel
	socket string // of PID 1
	tell   func(State)
	log    *slog.Logger

	// The rest belongs to run.
	state State
	cause openvpn.Cause
	heard openvpn.Pushed // what is pushed at the moment
	goes  bool           // the variables that come are those of a link that goes
	lost  time.Time      // since when a tunnel whose link is there is not connected
}

// record is what a later netd has to know of a tunnel that is up.
type record struct {
	Digest   string          `json:"digest"`   // of everything that openvpn was told
	Starting bool            `json:"starting"` // PID 1 was asked for it, and its management socket was not there yet
	Up       *openvpn.Pushed `json:"up"`
}

// The files of a tunnel.
const (
	controlFile = "control"
	recordFile  = "record"
)

func digest(t openvpn.Tunnel) string {
	sum := sha256.New()
	for _, s := range []string{t.Config.Reveal(), t.User, t.Password.Reveal(), t.KeyPassword.Reveal()} {
		fmt.Fprintf(sum, "%q\n", s)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// readRecord returns what an earlier netd has written; the zero value if there is nothing.
func readRecord(dir string) (r record) {
	text, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil || json.Unmarshal(text, &r) != nil {
		return record{}
	}
	return r
}

func (t *tunnel) keep(starting bool) {
	text, err := json.Marshal(record{digest(t.state.Tunnel), starting, t.state.Up})
	if err == nil {
		err = atomicfile.Write(filepath.Join(t.dir, recordFile), text, 0o600)
	}
	if err != nil {
		t.log.Warn("vpn state not written", "error", err)
	}
}

// report passes the state on and logs it if it has changed.
func (t *tunnel) report(change func(*State)) {
	before := t.state
	change(&t.state)
	if t.state.Words() != before.Words() {
		t.log.Info("vpn state", "file", t.entry.File, "state", t.state.Words())
	}
	t.tell(t.state)
}

// run keeps the tunnel up until ctx ends. Then openvpn ends as well if the tunnel is not wanted any more; if only netd
// ends, it stays.
func (t *tunnel) run(ctx context.Context) {
	pause := time.Duration(0)
	for ctx.Err() == nil {
		t.state.Tunnel = tunnelOf(t.entry)
		wait := faultPause
		if why := t.state.Tunnel.Fault; why != "" {
			endProcess(t.dir)
			t.report(func(s *State) { s.Phase, s.Reason, s.Up = Refused, why, nil })
		} else {
			connected := t.once(ctx)
			if ctx.Err() != nil {
				break
			}
			first, last := firstPause, lastPause
			if t.cause.Rank >= passwordRank {
				first, last = refusedPause, lastRefused
			}
			if connected {
				pause = 0
			}
			pause = min(max(2*pause, first), last)
			wait = pause
			reason := cmp.Or(t.cause.Text, "openvpn has ended")
			t.report(func(s *State) { s.Phase, s.Reason, s.Up = Waiting, reason, nil })
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	if errors.Is(context.Cause(ctx), errNotWanted) {
		endProcess(t.dir)
	}
}

// once runs openvpn once, or takes over one that runs, until it ends. The result is whether it was connected.
func (t *tunnel) once(ctx context.Context) (connected bool) {
	t.cause, t.heard, t.lost = openvpn.Cause{}, openvpn.Pushed{}, time.Time{}
	control := filepath.Join(t.dir, controlFile)
	old := readRecord(t.dir)
	conn, err := net.Dial("unix", control)
	if err != nil && old.Starting {
		conn, err = await(ctx, control, nil) // an earlier netd has asked for it
	}
	if err == nil && old.Digest == digest(t.state.Tunnel) {
		t.state.Up = old.Up
	} else {
		if err == nil {
			conn.Close()
		}
		endProcess(t.dir)
		t.report(func(s *State) { s.Phase, s.Up = Connecting, nil })
		if conn, err = t.start(ctx, control); err != nil {
			t.cause = openvpn.Cause{Rank: 1, Text: err.Error()}
			if ctx.Err() == nil {
				t.keep(false) // none starts any more
			}
			return false
		}
		t.keep(false)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	return t.speak(ctx, conn)
}

// start has PID 1 start openvpn, gives it its configuration, and waits for its management socket.
func (t *tunnel) start(ctx context.Context, control string) (net.Conn, error) {
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := net.InterfaceByName(t.state.Tunnel.Link); err == nil {
		return nil, fmt.Errorf("somebody else has a link with the name %s", t.state.Tunnel.Link)
	}
	t.keep(true)
	process, err := net.Dial("unix", t.socket)
	if err != nil {
		return nil, fmt.Errorf("start openvpn: %w; try: osctl status vpn", err)
	}
	defer process.Close()
	if _, err := io.WriteString(process, t.state.Tunnel.Complete(control)); err != nil {
		return nil, fmt.Errorf("configure openvpn: %w", err)
	}
	if err := process.(*net.UnixConn).CloseWrite(); err != nil {
		return nil, fmt.Errorf("configure openvpn: %w", err)
	}
	ended := make(chan struct{})
	go func() { // ends with the process, or when start closes the connection
		defer close(ended)
		io.Copy(io.Discard, process) // it writes nothing: the end counts
	}()
	return await(ctx, control, ended)
}

// await waits until the management socket of an openvpn that starts is there. If nobody wants the tunnel any more, it
// waits all the same: only then can openvpn be told to end.
func await(ctx context.Context, control string, ended <-chan struct{}) (net.Conn, error) {
	var limit <-chan time.Time
	if ended == nil { // nobody says whether the process lives. One that lives is never given up: it would stay behind
		limit = time.After(startLimit)
	}
	for {
		if conn, err := net.Dial("unix", control); err == nil {
			return conn, nil
		}
		leave := ctx.Done()
		if errors.Is(context.Cause(ctx), errNotWanted) {
			leave = nil
		}
		select {
		case <-leave:
			if !errors.Is(context.Cause(ctx), errNotWanted) {
				return nil, context.Cause(ctx)
			}
		case <-ended:
			return nil, errors.New("openvpn has ended at once; see: osctl logs vpn")
		case <-limit:
			return nil, errors.New("openvpn does not answer; see: osctl logs vpn")
		case <-time.After(dialEvery):
		}
	}
}

// longestLine is the longest line of a management socket that is read.
const longestLine = 64 << 10

// speak speaks with openvpn until it ends, or until ctx does.
func (t *tunnel) speak(ctx context.Context, conn net.Conn) (connected bool) {
	lines := make(chan string)
	done := make(chan struct{})
	defer func() { conn.Close(); <-done }()
	leave := make(chan struct{})
	defer close(leave)
	go func() {
		defer close(done)
		defer close(lines)
		in := bufio.NewScanner(conn)
		in.Buffer(make([]byte, 0, 4096), longestLine)
		for in.Scan() {
			select {
			case lines <- in.Text():
			case <-leave:
				return
			}
		}
	}()
	t.send(conn, "log on", "state on", "state", "hold off", "hold release")
	timer := time.NewTimer(silentLimit)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return connected
		case line, open := <-lines:
			if !open {
				return connected
			}
			t.message(conn, openvpn.ParseMessage(line))
			connected = connected || t.state.Phase == Connected
		case <-timer.C:
			timer.Reset(silentLimit / 4)
			if t.state.Tunnel.Named && !t.lost.IsZero() && time.Since(t.lost) >= silentLimit {
				const why = "its server is looked up outside of the tunnel"
				t.log.Info("vpn begins again", "file", t.entry.File, "reason", why)
				t.send(conn, "signal SIGTERM")
			}
		}
	}
}

// send sends commands. An error shows when the connection is read.
func (t *tunnel) send(conn net.Conn, commands ...string) {
	_ = conn.SetWriteDeadline(time.Now().Add(commandWithin)) // of a socket that can
	if _, err := io.WriteString(conn, strings.Join(commands, "\n")+"\n"); err != nil {
		t.log.Debug("vpn command not sent", "file", t.entry.File, "error", err)
	}
}

// message handles what openvpn says.
func (t *tunnel) message(conn net.Conn, m openvpn.Message) {
	switch m.Kind {
	case "LOG":
		line, _ := openvpn.Log(m.Text)
		t.heard.Hear(line)
		t.blame(openvpn.CauseOf(line))
	case "FATAL":
		t.blame(openvpn.Cause{Rank: 2, Text: "openvpn: " + m.Text})
		t.blame(openvpn.CauseOf(m.Text))
	case "STATE":
		if s, ok := openvpn.ParseState(m.Text); ok {
			t.phase(s)
		}
	case "HOLD":
		t.send(conn, "hold release")
	case "PASSWORD":
		t.secret(conn, m.Text)
	case "UPDOWN":
		t.updown(m.Text)
	case "": // the answer to the command state
		if s, ok := openvpn.ParseState(m.Text); ok && s.Name == "CONNECTED" {
			if t.state.Up == nil { // nobody knows any more what the server has pushed
				t.send(conn, "signal SIGTERM")
				return
			}
			t.phase(s)
		}
	}
}

// blame notes a cause, if it says more than what is known.
func (t *tunnel) blame(c openvpn.Cause) {
	if c.Rank < t.cause.Rank || c.Rank == 0 {
		return
	}
	t.cause = c
	if t.state.Phase != Connected {
		t.report(func(s *State) { s.Reason = c.Text })
	}
}

// phase takes over what openvpn says about the connection.
func (t *tunnel) phase(s openvpn.State) {
	switch s.Name {
	case "CONNECTED":
		t.cause, t.lost = openvpn.Cause{}, time.Time{}
		t.report(func(now *State) { now.Phase, now.Server, now.Reason = Connected, s.Server, "" })
	case "EXITING":
	default:
		if s.Name == "GET_CONFIG" {
			t.heard.Full4, t.heard.Full6 = false, false // what is pushed comes now
		}
		if t.state.Phase == Connected {
			t.lost = time.Now()
		}
		t.report(func(now *State) { now.Phase, now.Reason = Connecting, t.cause.Text })
	}
}

// secret answers a question for a password, or notes that one was wrong.
func (t *tunnel) secret(conn net.Conn, text string) {
	realm, wrong, ok := openvpn.Asked(text)
	if !ok {
		return
	}
	user, password := t.state.Tunnel.User, t.state.Tunnel.Password.Reveal()
	what, missing := "user name or password", user == "" || password == ""
	if realm == "Private Key" {
		password = t.state.Tunnel.KeyPassword.Reveal()
		what, missing = "password of the private key", password == ""
	}
	switch {
	case wrong && realm == "Auth":
		t.blame(openvpn.Cause{Rank: passwordRank + 1, Text: "the server has refused the user name or password"})
		return
	case wrong:
		t.blame(openvpn.Cause{Rank: passwordRank + 1, Text: "the " + what + " is wrong"})
		return
	case missing || realm != "Auth" && realm != "Private Key":
		const absent = " is not in the profile, and nobody can be asked for it"
		t.blame(openvpn.Cause{Rank: passwordRank + 1, Text: "the " + what + absent})
		t.send(conn, "signal SIGTERM")
		return
	}
	commands := []string{}
	for _, one := range []struct{ verb, value string }{{"username", user}, {"password", password}} {
		if realm == "Private Key" && one.verb == "username" {
			continue
		}
		command, ok := openvpn.Answer(one.verb, realm, one.value)
		if !ok {
			t.blame(openvpn.Cause{Rank: passwordRank + 1, Text: "the " + what + " has a line end in it or is too long"})
			t.send(conn, "signal SIGTERM")
			return
		}
		commands = append(commands, command)
	}
	t.send(conn, commands...)
}

// updown takes over that the link is there, with what the server has pushed, or that it goes.
func (t *tunnel) updown(text string) {
	switch text {
	case "UP", "DOWN":
		t.goes = text == "DOWN"
	}
	if t.goes && t.state.Up != nil {
		t.report(func(s *State) { s.Up = nil })
		t.keep(false)
	}
	if done := t.heard.Environ(text); !done || t.goes {
		return
	}
	up := t.heard
	t.report(func(s *State) { s.Up = &up })
	t.keep(false)
}

// endProcess ends the openvpn of a directory, if one runs, and removes what is known of it.
func endProcess(dir string) {
	control := filepath.Join(dir, controlFile)
	conn, err := net.Dial("unix", control)
	if err != nil && readRecord(dir).Starting {
		conn, err = await(context.Background(), control, nil)
	}
	if err == nil {
		_ = conn.SetDeadline(time.Now().Add(commandWithin))
		_, err = io.WriteString(conn, "signal SIGTERM\n")
		if err == nil {
			io.Copy(io.Discard, conn) // until it has ended
		}
		conn.Close()
	}
	_ = os.RemoveAll(dir) // it is in RAM; what stays is found by the next start
}
