package boottest

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdUnit is the command "unit VARIABLE PACKAGE PROGRAM...": it builds the tests of a package for the story's device,
// and serves them over HTTP below the address in VARIABLE: PACKAGE as unit.test, and programs of the host with their
// libraries as programs.tar, to be unpacked in /tmp/unit. Such tests need a kernel that the host may not have.
func cmdUnit(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) >= 2 && !neg, "unit VARIABLE PACKAGE PROGRAM...")
	s := sceneOf(ts)
	dir := ts.MkAbs("unit-" + args[0])
	ts.Check(os.MkdirAll(filepath.Join(dir, "programs"), 0o755))
	build := exec.CommandContext(s.ctx, "go", "test", "-c", "-o", filepath.Join(dir, "unit.test"), "./"+args[1])
	build.Dir = top
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+architecture(s.board))
	run(ts, build)
	for _, name := range args[2:] {
		ts.Check(carry(name, filepath.Join(dir, "programs")))
	}
	archive := filepath.Join(dir, "programs.tar")
	run(ts, exec.CommandContext(s.ctx, "tar", "-C", filepath.Join(dir, "programs"), "-cf", archive, "."))
	listener, err := net.Listen("tcp4", net.JoinHostPort(Gateway, "0"))
	ts.Check(err)
	server := httptest.NewUnstartedServer(http.FileServer(http.Dir(dir)))
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	ts.Defer(server.Close)
	s.set(ts, args[0], server.URL)
}

func architecture(board string) string {
	if strings.HasSuffix(board, "arm64") {
		return "arm64"
	}
	return "amd64"
}

func run(ts *testscript.TestScript, cmd *exec.Cmd) {
	if out, err := cmd.CombinedOutput(); err != nil {
		ts.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

// carry copies a program of the host with its libraries, and a script that runs it in /tmp/unit with these.
func carry(name, dir string) error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("carry %s: its loader has another name on %s", name, runtime.GOARCH)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	libraries, err := exec.Command("ldd", path).Output()
	if err != nil {
		return fmt.Errorf("list libraries of %s: %w", path, err)
	}
	files := map[string]string{name + ".real": path}
	for _, word := range strings.Fields(string(libraries)) {
		if filepath.IsAbs(word) {
			files[filepath.Base(word)] = word
		}
	}
	for to, from := range files {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), text, 0o755)
		}
		if err != nil {
			return err
		}
	}
	script := "#!/bin/sh\ncd /tmp/unit\nexec ./ld-linux-x86-64.so.2 --library-path . ./" + name + ".real \"$@\"\n"
	return os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755)
}
