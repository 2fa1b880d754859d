package boottest

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/vishvananda/netlink"

	"resinos/containers/pull/pulltest"
)

// speaker is the program of the image: it says its arguments, and stays only without any.
const speaker = `package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	fmt.Println("pulled program runs", strings.Join(os.Args[1:], " "))
	if len(os.Args) > 1 {
		return
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	<-c
}
`

// goArch is the architecture of a board, as Go has it.
var goArch = map[string]string{"qemu-x86_64": "amd64", "qemu-arm64": "arm64"}

// registry NAME [HOST ADDRESS]: a registry without TLS begins to serve at HOST:5000 (KNOWN_NAME) in the lab, with an
// image NAME:1 whose program is /program. IMAGE is its whole name. It ends with the story.
func cmdRegistry(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, (len(args) == 1 || len(args) == 3) && !neg, "registry NAME [HOST ADDRESS]")
	host, home := KnownName, KnownAddress
	if len(args) == 3 {
		host, home = args[1], args[2]
	}
	s := sceneOf(ts)
	arch := goArch[s.board]
	program := filepath.Join(ts.MkAbs("."), "program")
	ts.Check(os.WriteFile(program+".go", []byte(speaker), 0o644))
	build := exec.Command("go", "build", "-trimpath", "-o", program, program+".go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GO111MODULE=off")
	if out, err := build.CombinedOutput(); err != nil {
		ts.Fatalf("build program: %v\n%s", err, out)
	}
	text, err := os.ReadFile(program)
	ts.Check(err)
	r := pulltest.New(s.t)
	r.Push(args[0], "1", arch, pulltest.Tar(s.t, map[string][]byte{"program": text}, 0o755),
		pulltest.Layer(s.t, "data", 5<<20))
	stop, err := s.device.lab.serveHTTP(netip.MustParseAddr(home), 5000, r)
	ts.Check(err)
	ts.Defer(stop)
	s.set(ts, "IMAGE", fmt.Sprintf("%s:5000/%s:1", host, args[0]))
}

// serveHTTP answers on an address of the lab, which the bridge takes for it.
func (l *Lab) serveHTTP(home netip.Addr, port uint16, h http.Handler) (stop func(), err error) {
	address, err := netlink.ParseAddr(home.String() + "/32")
	if err != nil {
		return nil, fmt.Errorf("serve HTTP: %w", err)
	}
	if err := netlink.AddrReplace(l.bridge, address); err != nil {
		return nil, fmt.Errorf("serve HTTP on %s: %w", home, err)
	}
	listener, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(home, port)))
	if err != nil {
		return nil, fmt.Errorf("serve HTTP: %w", err)
	}
	server := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // it ends when it is closed
	}()
	return func() {
		_ = server.Close() // cuts what is under way
		<-done
	}, nil
}
