package imagecommand

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/containers/appcontrol"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/mounts/testenv"
	"resinos/services/control"
)

// manager answers as one that has two images, and loads any archive.
func manager(t *testing.T) (place clitest.Place, loaded chan [32]byte) {
	t.Helper()
	loaded = make(chan [32]byte, 1)
	steps := []appcontrol.Progress{{Waiting: true}, {Done: 1 << 20, Size: 4 << 20},
		{Ended: true, Images: []string{"a:1"}}}
	at, read := 0, make(chan struct{})
	images := []appcontrol.Image{
		{Name: "docker.io/library/a:1", Digest: "sha256:0123456789abcdef", Size: 5 << 20, Created: time.Unix(1e9, 0),
			UsedBy: []string{"shop.web", "shop.db"}, Needed: true},
		{Name: "b.lan/\x1b:1", Size: 1000, Created: time.Unix(1e9, 0), Partial: true},
		{Name: "c:1", Size: 1000, Created: time.Unix(1e9, 0), Needed: true},
	}
	socket := clitest.Serve(t, map[string]control.Handler{
		appcontrol.OpImages: func(context.Context, json.RawMessage) (any, error) { return images, nil },
		appcontrol.OpPull: func(context.Context, json.RawMessage) (any, error) {
			return appcontrol.Job{ID: "1"}, nil
		},
		appcontrol.OpTake: func(_ context.Context, args json.RawMessage) (any, error) {
			if !strings.Contains(string(args), `"shop/web"`) {
				return nil, &control.Error{Text: "find container image: not found", Hint: "see which there are"}
			}
			return appcontrol.Job{ID: "1"}, nil
		},
		appcontrol.OpProgress: func(_ context.Context, args json.RawMessage) (any, error) {
			if strings.Contains(string(args), `"2"`) {
				<-read
				return appcontrol.Progress{Ended: true, Images: []string{"a:1"}}, nil
			}
			at++
			return steps[min(at-1, len(steps)-1)], nil
		},
		appcontrol.OpLoad: func(_ context.Context, args json.RawMessage) (any, error) {
			var w appcontrol.Work
			if err := json.Unmarshal(args, &w); err != nil {
				return nil, err
			}
			f, err := os.Open(w.File)
			if err != nil {
				return nil, err
			}
			go func() { // as the manager does: it answers first
				defer f.Close()
				h := sha256.New()
				_, _ = io.Copy(h, f)
				loaded <- [32]byte(h.Sum(nil))
				close(read)
			}()
			return appcontrol.Job{ID: "2"}, nil
		},
		appcontrol.OpPrune: func(context.Context, json.RawMessage) (any, error) {
			return []appcontrol.Removed{{Image: "a:1", Size: 3 << 20}, {Image: "b:1", Size: 10, Partial: true}}, nil
		},
	})
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, filepath.Dir(appcontrol.SocketPath)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(socket, filepath.Join(root, appcontrol.SocketPath)); err != nil {
		t.Fatal(err)
	}
	table := map[string]cli.Run{}
	for _, c := range Commands() {
		table[c.Name] = c.Run
	}
	return clitest.Place{Main: clitest.Commands(table), Root: root}, loaded
}

func TestCommands(t *testing.T) {
	testenv.NeedRoot(t, "a server that answers nobody else")
	p, _ := manager(t)
	p.Golden(t, "images", "images", "images --json", "pull a:1", "pull", "prune -n", "prune --json", "load /none",
		"load", "load --docker shop/web", "load --docker other")
}

// TestLoad: an archive of any size reaches the manager whole, also one that fits into a pipe.
func TestLoad(t *testing.T) {
	testenv.NeedRoot(t, "a server that answers nobody else")
	for _, size := range []int{10, 3 << 20} {
		p, loaded := manager(t)
		data := []byte(strings.Repeat("0123456789", size/10))
		file := filepath.Join(t.TempDir(), "archive")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out, messages := p.Do(t, "load", file); code != 0 || out != "a:1 is loaded\n" {
			t.Errorf("%d bytes: %d, %q, %q", size, code, out, messages)
		}
		if got := testenv.Receive(t, "the archive", loaded); got != sha256.Sum256(data) {
			t.Errorf("%d bytes came as others", size)
		}
	}
}
