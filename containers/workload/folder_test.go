package workload

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/mounts/testenv"
)

func tarWith(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const goodIndex = `{"schemaVersion":2,"manifests":[{"digest":"sha256:abc","annotations":{"org.opencontainers.image.ref.name":"busybox"}}]}`

func TestReadPreload(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want string // of the error
	}{
		"good":        {tarWith(t, map[string]string{"blobs/x": strings.Repeat("x", 1<<16), "./index.json": goodIndex}), ""},
		"empty":       {nil, "no index.json"},
		"no_tar":      {[]byte(strings.Repeat("garbage ", 100)), "invalid tar header"},
		"cut":         {tarWith(t, map[string]string{"index.json": goodIndex})[:600], "unexpected EOF"},
		"no_json":     {tarWith(t, map[string]string{"index.json": "{"}), "unexpected EOF"},
		"no_name":     {tarWith(t, map[string]string{"index.json": `{"manifests":[{"digest":"sha256:abc"}]}`}), "names no image"},
		"name_is_bad": {tarWith(t, map[string]string{"index.json": strings.Replace(goodIndex, `"busybox"`, `"NO NAME"`, 1)}), "names no image"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "image.tar")
			if err := os.WriteFile(file, c.data, 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := readPreload(file)
			if c.want == "" {
				want := Preload{file, "docker.io/library/busybox:latest", "sha256:abc"}
				if err != nil || len(got) != 1 || got[0] != want {
					t.Errorf("readPreload = %v, %v", got, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("error %v, want %q and the file", err, c.want)
			}
		})
	}
}

func FuzzReadIndex(f *testing.F) {
	f.Add(tarWith(f, map[string]string{"index.json": goodIndex}))
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, data []byte) {
		index, err := readIndex(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, m := range index.Manifests {
			if name := imageName(m.Annotations); name != "" && name != normalName(name) {
				t.Errorf("name %q is not whole", name)
			}
		}
	})
}

func TestReadAppsWithoutFolder(t *testing.T) {
	got, err := readApps(filepath.Join(t.TempDir(), "none"), slog.New(slog.DiscardHandler))
	if err != nil || len(got.wanted) > 0 {
		t.Errorf("readApps = %v, %v", got, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readApps(file, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file in place of the folder: no error, so every container would be deleted")
	}
}

func TestRecordsSurviveGarbage(t *testing.T) {
	dir := t.TempDir()
	if err := saveRecord(dir, "a.web", Record{Starts: 2}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b.web.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := loadRecords(dir)
	if err != nil || len(got) != 1 || got["a.web"].Starts != 2 {
		t.Errorf("loadRecords = %v, %v", got, err)
	}
	if err := errors.Join(removeRecord(dir, "a.web"), removeRecord(dir, "a.web")); err != nil {
		t.Error(err)
	}
}

// TestWithoutInotify: with a container that has taken all instances, the manager still finds the engine, and its containers a new resolv.conf.
func TestWithoutInotify(t *testing.T) {
	if limit := testenv.UserLimit(t, "max_inotify_instances"); limit != nil {
		limit(0)
		awaitASocket(t)
		mirrorAFile(t)
	}
}

func TestAwaitSocket(t *testing.T) { awaitASocket(t) }

func awaitASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "s")
	got := make(chan error, 1)
	go func() { got <- awaitSocket(t.Context(), path, slog.New(slog.DiscardHandler)) }()
	time.Sleep(20 * time.Millisecond) // sleep: so that it waits; if it does not yet, the test is weaker but not wrong
	l, err := net.Listen("unix", path)
	for errors.Is(err, os.ErrNotExist) {
		l, err = net.Listen("unix", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := <-got; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := awaitSocket(ctx, path+"-never", slog.New(slog.DiscardHandler)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a server: %v", err)
	}
}

func TestMirrorFile(t *testing.T) { mirrorAFile(t) }

func mirrorAFile(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "a", "resolv.conf"), filepath.Join(dir, "b", "resolv.conf")
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- MirrorFile(ctx, from, to, ready, slog.New(slog.DiscardHandler)) }()
	<-ready
	bound, err := os.Open(to) // what a container has
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	for _, text := range []string{"nameserver 192.0.2.1\n", "x\n"} {
		if err := os.WriteFile(from+".new", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(from+".new", from); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		testenv.WaitFor(t, text+" in the bound file", func() bool {
			n, _ := bound.ReadAt(buf, 0) // io.EOF at every read, the text is shorter
			return string(buf[:n]) == text
		})
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
