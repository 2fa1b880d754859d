package gate

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"
)

// TestAPI: what a daemon answers, and one that answers nothing of use.
func TestAPI(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		text   string
		busy   bool
		fails  bool
	}{
		"none runs":  {200, "[]", false, false},
		"two run":    {200, `[{"Id":"a"},{"Id":"b"}]`, true, false},
		"not ready":  {500, `{"message":"x"}`, false, true},
		"garbage":    {200, "<html>", false, true},
		"no list":    {200, `{"Id":"a"}`, false, true},
		"cut answer": {200, `[{"Id":"a"}`, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			asked := ""
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = r.URL.Path
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.text)
			})}
			ended := make(chan error)
			go func() { ended <- server.Serve(l) }()
			api := NewAPI(socket)
			if busy, err := api.Busy(t.Context()); busy != c.busy || (err != nil) != c.fails {
				t.Errorf("Busy() = %v, %v", busy, err)
			}
			if asked != "/containers/json" { // without all=1: those that run
				t.Errorf("asked for %s", asked)
			}
			if alive := api.Alive(t.Context()); alive != (c.status == 200) {
				t.Errorf("Alive() = %v at status %d", alive, c.status)
			}
			_ = server.Close()
			<-ended
			if _, err := api.Busy(t.Context()); err == nil || api.Alive(t.Context()) {
				t.Errorf("of a daemon that is gone: %v", err)
			}
		})
	}
}
