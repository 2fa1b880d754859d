package fetcher

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/services/registries"
)

// The test binary is a fetcher when it is called by that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "fetcher" {
		os.Exit(m.Run())
	}
	conn, err := FromFile(os.NewFile(3, "test"))
	give := Confine
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0); errno == unix.ENOTSUP {
		give = func() error { return nil } // built with cgo; TestConfined builds one without
	}
	if err == nil {
		err = Run(context.Background(), Config{Image: os.Args[1], Settings: os.Args[2:], Conn: conn, Confine: give})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fetcher:", err)
		os.Exit(1)
	}
}

// start starts a fetcher for an image.
func start(t *testing.T, image string, settings ...string) *Process {
	t.Helper()
	return startProgram(t, "/proc/self/exe", image, settings...)
}

func startProgram(t *testing.T, program, image string, settings ...string) *Process {
	t.Helper()
	cmd := &exec.Cmd{Path: program, Args: append([]string{"fetcher", image}, settings...), Env: []string{},
		Dir: "/", Stderr: os.Stderr}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	}
	p, err := Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// serve serves a registry with TLS; the settings say that it may be trusted.
func serve(t *testing.T, h http.Handler) (server *httptest.Server, host, settings string) {
	t.Helper()
	server = httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = nil
	server.StartTLS()
	t.Cleanup(server.CloseClientConnections)
	t.Cleanup(server.Close)
	host = strings.TrimPrefix(server.URL, "https://")
	settings = t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	write(t, filepath.Join(settings, host, "ca.pem"), string(ca))
	write(t, filepath.Join(settings, host, registries.HostsFile), "server = \""+server.URL+"\"\nca = \"ca.pem\"\n")
	return server, host, settings
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
