package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"resinos/net/redsocks"
)

var target = netip.MustParseAddrPort("203.0.113.10:443")

// dial dials through a server that does as script says. What the server has read is returned too.
func dial(t *testing.T, kind redsocks.Type, script func(net.Conn)) (early string, err error) {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer there.Close()
		script(there)
	}()
	d := Dialer{Server: redsocks.Server{Type: kind, Host: "10.0.0.1", Port: 1080, Login: "ada", Password: "hidden"},
		Plain: func(context.Context, string, string) (net.Conn, error) { return here, nil }}
	conn, more, err := d.Dial(t.Context(), target, nil)
	if err == nil {
		conn.Close()
	}
	<-done
	return string(more), err
}

// answers reads some bytes and then sends a text, again and again.
func answers(texts ...string) func(net.Conn) {
	return func(c net.Conn) {
		buf := make([]byte, 4096)
		for _, text := range texts {
			if _, err := c.Read(buf); err != nil {
				return
			}
			io.WriteString(c, text)
		}
		io.Copy(io.Discard, c)
	}
}

func TestAnswers(t *testing.T) {
	const stands = "HTTP/1.1 200 OK\r\n\r\n"
	for _, c := range []struct {
		kind   redsocks.Type
		answer []string
		want   string // begin of the error; refused: one of this address alone
	}{
		{redsocks.Connect, []string{stands}, ""},
		{redsocks.Connect, []string{"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\nhello"}, ""},
		{redsocks.Connect, []string{"HTTP/1.1 407 no\r\nProxy-Authenticate: Basic realm=x\r\n\r\n"},
			"it refuses the login"},
		{redsocks.Connect, []string{"HTTP/1.1 407 no\r\nproxy-authenticate:NTLM\r\n\r\n"},
			"it refuses the login: it asks for NTLM, and only Basic is supported"},
		{redsocks.Connect, []string{"HTTP/1.1 503 no\r\n\r\n"}, "refused: the proxy answers CONNECT with status 503"},
		{redsocks.Connect, []string{"HTTP/1.1 2000 no\r\n\r\n"}, "its answer is not one of HTTP"},
		{redsocks.Connect, []string{"SSH-2.0-x\r\n"}, "its answer to CONNECT is not one of HTTP"},
		{redsocks.Connect, []string{"HTTP/1.1 200 OK\r\n" + strings.Repeat("a: b\r\n", 4000)},
			"its answer to CONNECT has a head of more than 16384 bytes"},
		{redsocks.SOCKS4, []string{"\x00\x5a12345678"[:8]}, ""},
		{redsocks.SOCKS4, []string{"\x00\x5b123456"}, "refused: the proxy says: request rejected or failed"},
		{redsocks.SOCKS4, []string{"\x00\x5d123456"}, "it refuses the login"},
		{redsocks.SOCKS4, []string{"HTTP/1.1"}, "its answer is not one of SOCKS4"},
		{redsocks.SOCKS5, []string{"\x05\x02", "\x01\x00", "\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"}, ""},
		{redsocks.SOCKS5, []string{"\x05\x02", "\x01\x01"}, "it refuses the login"},
		{redsocks.SOCKS5, []string{"\x05\xff"}, "it refuses the login: it asks for another kind"},
		{redsocks.SOCKS5, []string{"HTTP"}, "its answer is not one of SOCKS5"},
		{redsocks.SOCKS5, []string{"\x05\x01"}, "its answer is not one of SOCKS5"},
		{redsocks.SOCKS5, []string{"\x05\x02", "HT"}, "its answer is not one of SOCKS5"},
		{redsocks.SOCKS5, []string{"\x05\x02", "\x01\x00", "HTTP"}, "its answer is not one of SOCKS5"},
		{redsocks.SOCKS5, []string{"\x05\x02", "\x01\x00", "\x05\x00\x07\x01"}, "its answer is not one of SOCKS5"},
		{redsocks.SOCKS5, []string{"\x05\x02", "\x01\x00", "\x05\x00\x00\x09"}, "its answer is not one of SOCKS5"},
		{redsocks.SOCKS5, []string{"\x05\x02", "\x01\x00", "\x05\x05\x00\x01\x7f\x00\x00\x01\x00\x50"},
			"refused: the proxy says: connection refused"},
	} {
		early, err := dial(t, c.kind, answers(c.answer...))
		got := ""
		var refused *RefusedError
		if errors.As(err, &refused) {
			got = "refused: "
		}
		if err != nil {
			got += err.Error()
		}
		if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" || strings.Contains(got, "hidden") {
			t.Errorf("%s, %q: %q, want %q", c.kind, c.answer, got, c.want)
		}
		if want := strings.HasSuffix(c.answer[0], "hello"); want != (early == "hello") {
			t.Errorf("%s, %q: behind the answer %q", c.kind, c.answer, early)
		}
	}
}

// TestSilence: a server that says nothing, or a byte now and then, has Handshake; one that closes has none.
func TestSilence(t *testing.T) {
	for _, kind := range []redsocks.Type{redsocks.Connect, redsocks.SOCKS4, redsocks.SOCKS5} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			_, err := dial(t, kind, func(c net.Conn) { io.Copy(io.Discard, c) })
			if took := time.Since(begin); err == nil || took != Handshake {
				t.Errorf("%s, silence: %v after %s", kind, err, took)
			}
			if _, err := dial(t, kind, func(c net.Conn) { c.Read(make([]byte, 1)) }); err == nil {
				t.Errorf("%s: it closes, and the connection stands", kind)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		_, err := dial(t, redsocks.Connect, func(c net.Conn) {
			go io.Copy(io.Discard, c)
			for _, b := range []byte("HTTP/1.1 200 OK\r\nVia: a very long way") {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		// The server notices it with its next byte.
		if took := time.Since(begin); err == nil || took < Handshake || took > Handshake+time.Second {
			t.Errorf("a byte a second: %v after %s", err, took)
		}
	})
}

func TestRelayed(t *testing.T) {
	to := netip.MustParseAddrPort("203.0.113.10:80")
	const end = "Connection: close\r\nProxy-Connection: close\r\n\r\n"
	for head, want := range map[string]string{
		"GET /a?b HTTP/1.1\r\nHost: example.com:80\r\nConnection: keep-alive\r\nX: y": "GET " +
			"http://example.com:80/a?b HTTP/1.1\r\nHost: example.com:80\r\nX: y\r\nauth\r\n" + end,
		"GET / HTTP/1.0": "GET http://203.0.113.10/ HTTP/1.0\r\nauth\r\n" + end,
		"GET / HTTP/1.1\r\nHost: a/b@c\r\nProxy-Authorization: own": "GET http://203.0.113.10/ HTTP/1.1\r\n" +
			"Host: a/b@c\r\nauth\r\n" + end,
		"GET http://x/ HTTP/1.1":         "GET http://x/ HTTP/1.1\r\nauth\r\n" + end,
		"SSH-2.0-client":                 "",
		"GET / HTTP/1.1\r\n no field":    "",
		"GET / HTTP/1.1\r\nA: b\nInject": "",
	} {
		if got, ok := relayed(head, to, "auth\r\n"); got != want || ok != (want != "") {
			t.Errorf("relayed(%q) = %q, %v, want %q", head, got, ok, want)
		}
	}
}

// TestRequest: the first request of a client goes out in one piece, with what it has sent behind the head.
func TestRequest(t *testing.T) {
	program, client := net.Pipe()
	defer program.Close()
	go io.WriteString(program, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
	here, there := net.Pipe()
	got := make(chan string, 1)
	go func() {
		buf := make([]byte, 1000)
		n, err := there.Read(buf)
		got <- fmt.Sprint(string(buf[:n]), err)
	}()
	d := Dialer{Server: redsocks.Server{Type: redsocks.Relay},
		Plain: func(context.Context, string, string) (net.Conn, error) { return here, nil }}
	if _, _, err := d.Dial(t.Context(), target, client); err != nil {
		t.Fatal(err)
	}
	want := "POST http://h/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nConnection: close\r\n" +
		"Proxy-Connection: close\r\n\r\nabc"
	if text := <-got; text != want+"<nil>" {
		t.Errorf("%q, want %q", text, want)
	}
}
