package reach

import (
	"strings"
	"testing"
	"time"
)

func TestParseTarget(t *testing.T) {
	for _, tt := range []struct {
		uri, endpoint, want string // want: host, port and path; empty: only gateways are asked
		fault               string
	}{
		{"", "", "", ""},
		{"", "https://api.example.com", "api.example.com /connectivity-check", ""},
		{"", "https://api.example.com:8443/", "api.example.com /connectivity-check", ""},
		{"http://check.example/x?y=1#z", "https://api.example.com", "check.example /x?y=1", ""},
		{"HTTP://Check.Example:8080", "", "check.example:8080 /", ""},
		{"http://check.example?a", "", "check.example /?a", ""},
		{"http://192.0.2.1/", "", "192.0.2.1 /", ""},
		{"http://[2001:db8::1]/", "", "[2001:db8::1] /", ""},
		{"http://[2001:db8::1]:81/", "", "[2001:db8::1]:81 /", ""},
		{"http://[fe80::1%eth0]/", "", "", "host"},
		{"http://me:secret@check.example/", "", "", "user"},
		{"ftp://check.example/", "", "", "http://"},
		{"check.example", "", "", "http://"},
		{"http://check.example:0/", "", "", "port"},
		{"http://check.example:x/", "", "", "port"},
		{"http:///x", "", "", "host"},
		{"http://check.example/a b", "", "", "ASCII"},
		{"http://check.example/\r\nHost: x", "", "", "ASCII"},
		{"http://bad~host/", "", "", "host"},
		{"http://check.example/" + strings.Repeat("a", 2000), "", "", "1024"},
	} {
		got, err := ParseTarget(tt.uri, tt.endpoint, "", 0)
		text := ""
		if got.Host != "" {
			text = got.authority() + " " + got.Path
		}
		wrong := (err != nil) != (tt.fault != "") || err != nil && !strings.Contains(err.Error(), tt.fault)
		if text != tt.want || wrong {
			t.Errorf("ParseTarget(%q, %q) = %q, %v, want %q, %q", tt.uri, tt.endpoint, text, err, tt.want, tt.fault)
		}
	}
	if got, _ := ParseTarget("null", "https://api.example.com", "", 0); !got.Off {
		t.Error(`"null" does not end the probes`)
	}
}

func TestInterval(t *testing.T) {
	for seconds, want := range map[int64]time.Duration{
		0: time.Hour, -5: time.Hour, 1: minInterval, 60: time.Minute, 1 << 62: maxInterval,
	} {
		if got, _ := ParseTarget("", "", "", seconds); got.Interval != want {
			t.Errorf("interval of %d = %s, want %s", seconds, got.Interval, want)
		}
	}
}

// answers are what may come back, what it means where status 204 is expected, and where the body "ok" is.
var answers = []struct {
	name, answer  string
	empty, withOK State
}{
	{"204", "HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n", Full, Portal},
	{"the body", "HTTP/1.0 200 OK\r\n\r\nok\n", Portal, Full},
	{"lines without CR", "HTTP/1.0 200 OK\n\nok", Portal, Full},
	{"another body", "HTTP/1.1 200 OK\r\n\r\n<html>log in", Portal, Portal},
	{"redirect", "HTTP/1.1 302 Found\r\nLocation: http://portal.example/login\r\n\r\n", Portal, Portal},
	{"redirect to itself with TLS", "HTTP/1.1 301 Moved\r\nlocation: https://check.example/c\r\n\r\n", Portal, Portal},
	{"RFC 6585", "HTTP/1.1 511 Network Authentication Required\r\n\r\nok", Portal, Portal},
	{"server in trouble", "HTTP/1.1 503 Busy\r\n\r\n", Limited, Limited},
	{"not found", "HTTP/1.1 404 Not Found\r\n\r\n", Portal, Portal},
	{"no HTTP", "SSH-2.0-x\r\n\r\n", Portal, Portal},
	{"no end of the head", "HTTP/1.1 204 No Content\r\nX: y", Portal, Portal},
	{"head without end", "HTTP/1.1 204 No Content\r\nX: " + strings.Repeat("y", maxAnswer), Full, Portal},
	{"bad status", "HTTP/1.1 20 OK\r\n\r\n", Portal, Portal},
	{"nothing", "", Limited, Limited},
}

func TestJudge(t *testing.T) {
	for _, tt := range answers {
		empty := Target{Host: "check.example", Port: 80, Path: "/c"}
		full := empty
		full.Response = "ok"
		if got := empty.judge([]byte(tt.answer), true); got.State != tt.empty {
			t.Errorf("%s: %s (%s), want %s", tt.name, got.State, got.Reason, tt.empty)
		}
		if got := full.judge([]byte(tt.answer), true); got.State != tt.withOK {
			t.Errorf("%s, where a body is expected: %s (%s), want %s", tt.name, got.State, got.Reason, tt.withOK)
		}
	}
	secure, _ := ParseTarget("https://check.example/c", "", "", 0)
	for to, want := range map[string]State{
		"https://check.example/c": Full, "https://check.example/c/": Full, "https://portal.example/c": Portal,
		"http://check.example/c": Portal, "": Portal,
	} {
		answer := "HTTP/1.1 301 Moved\r\nLocation: " + to + "\r\n\r\n"
		if got := secure.judge([]byte(answer), true); got.State != want {
			t.Errorf("redirect to %q: %s, want %s", to, got.State, want)
		}
	}
}

func FuzzJudge(f *testing.F) {
	for _, tt := range answers {
		f.Add([]byte(tt.answer), "", true)
		f.Add([]byte(tt.answer), "ok", false)
	}
	f.Fuzz(func(t *testing.T, p []byte, response string, whole bool) {
		got := Target{Host: "check.example", Port: 80, Path: "/", Response: response}.judge(p, whole)
		if len(got.Reason) > 1000 || got.State != Full && got.Reason == "" {
			t.Fatalf("%s with the reason %q", got.State, got.Reason)
		}
		for _, c := range got.Reason {
			if c < ' ' {
				t.Fatalf("control characters in %q", got.Reason)
			}
		}
	})
}

func FuzzParseTarget(f *testing.F) {
	f.Add("http://check.example:8080/x?y", "ok", int64(60))
	f.Add("https://[2001:db8::1]/", "", int64(0))
	f.Fuzz(func(t *testing.T, uri, response string, seconds int64) {
		got, err := ParseTarget(uri, "", response, seconds)
		if err != nil && got.Host != "" {
			t.Fatalf("%q is refused and asked", uri)
		}
		if got.Host != "" && strings.Count(got.request(), "\r\n") != 7 {
			t.Fatalf("%q adds lines to the request: %q", uri, got.request())
		}
	})
}
