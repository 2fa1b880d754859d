// Package upstream makes connections through a proxy server: SOCKS5, SOCKS4 and HTTP CONNECT. It reads no more of a
// server's answer than it needs, within a bound, and no error of it holds a login or a password. It decides nothing
// about retries, and passes no data. Read first: Dialer.
package upstream

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/proxy"
	"golang.org/x/sys/unix"

	"resinos/net/redsocks"
	"resinos/net/ruleset/part"
)

// Handshake is how long the server may take from the first packet until the connection stands.
const Handshake = 20 * time.Second

// keepAlive is how often it is looked whether the other end of a connection without traffic is still there.
const keepAlive = 10 * time.Minute

// RefusedError says that the server works, and could or would not connect with this one address.
type RefusedError struct{ Reason string }

// Error returns the reason.
func (e *RefusedError) Error() string { return e.Reason }

// Dialer makes connections through one server.
type Dialer struct {
	Server redsocks.Server
	Plain  func(ctx context.Context, network, address string) (net.Conn, error) // nil: Direct
}

// Direct connects past the packet filter's redirection. It needs CAP_NET_ADMIN, for the mark.
func Direct(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: time.Minute},
		Control: func(_, _ string, raw syscall.RawConn) (err error) {
			control := raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(part.Direct))
			})
			return errors.Join(control, err)
		}}
	return d.DialContext(ctx, network, address)
}

func (d Dialer) plain(ctx context.Context, network, address string) (net.Conn, error) {
	if d.Plain != nil {
		return d.Plain(ctx, network, address)
	}
	return Direct(ctx, network, address)
}

// Check connects with the server, and asks it for nothing.
func (d Dialer) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, Handshake)
	defer cancel()
	c, err := d.plain(ctx, "tcp", d.Server.Address())
	if err == nil {
		err = c.Close()
	}
	return err
}

// Dial returns a connection with the address to through the server, and what the server sent already behind its answer.
// It fails after Handshake at the latest, with a *RefusedError if only this one address is at fault. Of client, whose
// connection it is, it reads the first request if the server is a redsocks.Relay; else client may be nil.
func (d Dialer) Dial(ctx context.Context, to netip.AddrPort, client net.Conn) (conn net.Conn, early []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, Handshake)
	defer cancel()
	if d.Server.Type == redsocks.SOCKS5 {
		conn, err = d.socks5(ctx, to)
		return conn, nil, err
	}
	var request []byte
	if d.Server.Type == redsocks.Relay {
		if request, err = d.request(ctx, client, to); err != nil {
			return nil, nil, err
		}
	}
	conn, err = d.plain(ctx, "tcp", d.Server.Address())
	if err != nil {
		return nil, nil, err
	}
	broken := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // wakes reads and writes
	switch d.Server.Type {
	case redsocks.SOCKS4:
		err = d.socks4(conn, to)
	case redsocks.Connect:
		early, err = d.connect(conn, to)
	case redsocks.Relay:
		_, err = conn.Write(request)
	}
	if !broken() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, early, nil
}

// forward lets the library connect with the server, and keeps the connection.
type forward struct {
	d    Dialer
	conn net.Conn
}

// Dial is only there because the library asks for it.
func (f *forward) Dial(network, address string) (net.Conn, error) {
	return f.DialContext(context.Background(), network, address)
}

// DialContext connects with the server.
func (f *forward) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	f.conn, err = f.d.plain(ctx, network, address)
	return f.conn, err
}

// socks5 speaks RFC 1928 and RFC 1929.
func (d Dialer) socks5(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	var auth *proxy.Auth
	if d.Server.Login != "" {
		auth = &proxy.Auth{User: d.Server.Login, Password: d.Server.Password}
	}
	through := &forward{d: d}
	socks, err := proxy.SOCKS5("tcp", d.Server.Address(), auth, through)
	if err != nil {
		return nil, err
	}
	_, err = socks.(proxy.ContextDialer).DialContext(ctx, "tcp", to.String())
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "socks connect" && op.Err != nil {
		err = op.Err // without its addresses, which the caller knows
	}
	if err != nil {
		return nil, d.inWords(err)
	}
	return through.conn, nil
}

// inWords returns an error of the library for the owner, as it is with the other protocols. The library has no types
// for what a server answers (socks.Reply.String and socks.UsernamePassword of golang.org/x/net).
func (d Dialer) inWords(err error) error {
	text := err.Error()
	if reason, answered := strings.CutPrefix(text, "unknown error "); answered {
		return &RefusedError{"the proxy says: " + reason}
	}
	switch {
	case text == "username/password authentication failed":
		return errors.New("it refuses the login")
	case text == "no acceptable authentication methods" && d.Server.Login == "":
		return errors.New("it asks for a login")
	case text == "no acceptable authentication methods":
		return errors.New("it refuses the login: it asks for another kind than name and password")
	}
	for _, garbage := range []string{"unexpected protocol version", "non-zero reserved field", "unknown address type",
		"invalid username/password version", "unsupported authentication method"} {
		if strings.HasPrefix(text, garbage) {
			return errors.New("its answer is not one of SOCKS5")
		}
	}
	return err
}

// socks4 speaks the protocol of 1992: version, command, port, address, user, 0; and eight bytes as the answer, the
// second of which is 90 if the connection stands.
func (d Dialer) socks4(conn net.Conn, to netip.AddrPort) error {
	if !to.Addr().Is4() {
		return &RefusedError{"SOCKS4 knows no addresses of IPv6"}
	}
	request := binary.BigEndian.AppendUint16([]byte{4, 1}, to.Port())
	request = append(append(request, to.Addr().AsSlice()...), d.Server.Login...)
	if _, err := conn.Write(append(request, 0)); err != nil {
		return err
	}
	var answer [8]byte
	if err := full(conn, answer[:]); err != nil {
		return err
	}
	switch {
	case answer[0] != 0:
		return errors.New("its answer is not one of SOCKS4")
	case answer[1] == 90:
		return nil
	case answer[1] == 91:
		return &RefusedError{"the proxy says: request rejected or failed"}
	case answer[1] == 92 || answer[1] == 93:
		return errors.New("it refuses the login")
	}
	return errors.New("its answer is not one of SOCKS4")
}

func full(conn net.Conn, buf []byte) error {
	for n := 0; n < len(buf); {
		more, err := conn.Read(buf[n:])
		n += more
		if err != nil && n < len(buf) {
			return fmt.Errorf("it closed the connection instead of an answer: %w", err)
		}
	}
	return nil
}

// maxHead is the longest head of a message of HTTP, in bytes.
const maxHead = 16 << 10

// connect speaks RFC 9110, section 9.3.6.
func (d Dialer) connect(conn net.Conn, to netip.AddrPort) (early []byte, err error) {
	request := fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\n", to, to)
	if _, err := conn.Write([]byte(request + d.authorization() + "\r\n")); err != nil {
		return nil, err
	}
	head, early, err := readHead(conn, "HTTP/1.")
	if err != nil {
		return nil, fmt.Errorf("its answer to CONNECT %w", err)
	}
	return early, judge(head)
}

// authorization is the field of a request that has the login, with its line end; empty without a login.
func (d Dialer) authorization() string {
	if d.Server.Login == "" {
		return ""
	}
	secret := d.Server.Login + ":" + d.Server.Password
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(secret)) + "\r\n"
}

// readHead reads the head of a message of HTTP, which begins as given, and returns what came behind the head too. Its
// error says what the message does.
func readHead(conn net.Conn, begin string) (head string, rest []byte, err error) {
	buf := make([]byte, 0, 1024)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, make([]byte, len(buf))...)[:len(buf)]
		}
		n, err := conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if head, rest, whole := strings.Cut(string(buf), "\r\n\r\n"); whole && strings.HasPrefix(head, begin) {
			return head, []byte(rest), nil
		}
		switch {
		case !strings.HasPrefix(string(buf), begin[:min(len(buf), len(begin))]):
			return "", nil, errors.New("is not one of HTTP")
		case err != nil && len(buf) == 0:
			return "", nil, fmt.Errorf("does not come: %w", err)
		case err != nil:
			return "", nil, fmt.Errorf("does not end: %w", err)
		case len(buf) >= maxHead:
			return "", nil, fmt.Errorf("has a head of more than %d bytes", maxHead)
		}
	}
}

// judge reads the head of an answer to CONNECT.
func judge(head string) error {
	first, fields, _ := strings.Cut(head, "\r\n")
	version, rest, _ := strings.Cut(first, " ")
	code, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	status, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || version != "HTTP/1.0" && version != "HTTP/1.1" {
		return errors.New("its answer is not one of HTTP")
	}
	switch {
	case status/100 == 2:
		return nil
	case status == 407, status == 401: // the second is wrong, and what tinyproxy says
		return errors.New("it refuses the login" + wanted(fields))
	}
	return &RefusedError{fmt.Sprintf("the proxy answers CONNECT with status %d", status)}
}

// wanted says which way to log in the server asks for, if it is none of ours.
func wanted(fields string) string {
	for line := range strings.SplitSeq(fields, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if !strings.EqualFold(name, "proxy-authenticate") {
			continue
		}
		scheme, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		for _, other := range []string{"Digest", "NTLM", "Negotiate"} {
			if strings.EqualFold(scheme, other) {
				return ": it asks for " + other + ", and only Basic is supported"
			}
		}
	}
	return ""
}
