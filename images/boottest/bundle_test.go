package boottest

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// bundle VARIABLE: a web server offers the update of the story's board, until the story ends, and VARIABLE is its URL.
func cmdBundle(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 1 && !neg, "bundle VARIABLE")
	s := sceneOf(ts)
	file := filepath.Join(string(s.images), s.board+"-development.bundle")
	if _, err := os.Stat(file); err != nil {
		ts.Fatalf("bundle: %v; build it with: make test-bundles", err)
	}
	s.serveBundle(ts, args[0], file)
}

// serveBundle has a web server offer a file until the story ends, and sets VARIABLE to its URL.
func (s *scene) serveBundle(ts *testscript.TestScript, variable, file string) {
	listener, err := net.Listen("tcp4", net.JoinHostPort(Gateway, "0"))
	ts.Check(err)
	server := httptest.NewUnstartedServer(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) }))
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	ts.Defer(server.Close)
	s.set(ts, variable, server.URL+"/update.bundle")
}
