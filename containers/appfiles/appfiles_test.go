package appfiles

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/containers/appfiles/appfilestest"
	"resinos/containers/load"
	"resinos/containers/plan"
	"resinos/containers/store"
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

const goodIndex = `{"schemaVersion":2,"manifests":[{"digest":"sha256:abc",` +
	`"annotations":{"org.opencontainers.image.ref.name":"busybox"}}]}`

func TestReadPreload(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want string // of the error
	}{
		"good": {tarWith(t, map[string]string{"blobs/x": strings.Repeat("x", 1<<16),
			"./index.json": goodIndex}), ""},
		"empty":   {nil, "no index.json"},
		"no_tar":  {[]byte(strings.Repeat("garbage ", 100)), "invalid tar header"},
		"cut":     {tarWith(t, map[string]string{"index.json": goodIndex})[:600], "unexpected EOF"},
		"no_json": {tarWith(t, map[string]string{"index.json": "{"}), "unexpected EOF"},
		"no_name": {tarWith(t, map[string]string{"index.json": `{"manifests":[{"digest":"sha256:abc"}]}`}),
			"names no image"},
		"name_is_bad": {tarWith(t, map[string]string{"index.json": strings.Replace(goodIndex, `"busybox"`,
			`"NO NAME"`, 1)}), "names no image"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "image.tar")
			if err := os.WriteFile(file, c.data, 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := readPreload(file)
			if c.want == "" {
				want := plan.Preload{Path: file, Name: "docker.io/library/busybox:latest", Digest: "sha256:abc"}
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
		index, err := store.ReadIndex(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, m := range index.Manifests {
			if name := store.NameOf(m.Annotations); name != "" && name != store.Normal(name) {
				t.Errorf("name %q is not whole", name)
			}
		}
	})
}

func compose(image, restart string) string {
	return fmt.Sprintf("services: {web: {image: %s, network_mode: host, restart: %s}}", image, restart)
}

// read reads the apps in dir and returns what the log says.
func read(t *testing.T, dir string, before Apps) (Apps, string) {
	t.Helper()
	var log bytes.Buffer
	got, err := Read(t.Context(), appfilestest.InProcess{}, dir, before, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return got, log.String()
}

// appsWith makes a directory of apps. A name that ends with / is an empty directory.
func appsWith(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if strings.HasSuffix(name, "/") {
			err = errors.Join(err, os.MkdirAll(path, 0o755))
		} else {
			err = errors.Join(err, os.WriteFile(path, []byte(text), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func ids(f Apps) (out []string) {
	for _, w := range f.Wanted {
		out = append(out, w.ID())
	}
	return out
}

func TestReadAppsWithoutDirectory(t *testing.T) {
	got, log := read(t, filepath.Join(t.TempDir(), "none"), Apps{})
	if len(got.Wanted) > 0 || log != "" {
		t.Errorf("Read = %v, and said %q", got, log)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(t.Context(), appfilestest.InProcess{}, file, Apps{}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file in place of the directory: no error, so every container would be deleted")
	}
}

// TestReadAppsWaitsForNobody: what is not a regular file is named, is not read, and the other apps run.
func TestReadAppsWaitsForNobody(t *testing.T) {
	good := compose("there", "always")
	dir := appsWith(t, map[string]string{
		"good/compose.yaml": good, "good/images/": "", "fifo/": "", "zero/": "", "endless/": "",
		"dir/compose.yaml/":  "",
		"large/compose.yaml": strings.Repeat("# long\n", 1<<16),
		"links/compose.yaml": good, "linked-dir/compose.yaml": good, "notes.txt": "",
	})
	at := func(name string) string { return filepath.Join(dir, name) }
	outside := appsWith(t, map[string]string{"compose.yaml": good, "x.tar": string(tarWith(t,
		map[string]string{"index.json": goodIndex}))})
	if err := errors.Join(
		unix.Mkfifo(at("fifo/compose.yaml"), 0o600),
		os.Symlink("/dev/zero", at("zero/compose.yaml")),
		os.Symlink("compose.yaml", at("endless/compose.yaml")),
		os.Symlink(outside, at("symlink")),
		os.Symlink(outside, at("linked-dir/images")),
		unix.Mkfifo(at("good/images/fifo.tar"), 0o600),
		os.Symlink("/dev/zero", at("good/images/zero.tar")),
	); err != nil {
		t.Fatal(err)
	}
	got, log := read(t, dir, Apps{})
	if want := "good.web linked-dir.web links.web"; strings.Join(ids(got), " ") != want ||
		got.Wanted[1].Preload != nil {
		t.Errorf("wanted %v, want %s without preloaded images", got.Wanted, want)
	}
	if want := "dir endless fifo large zero"; strings.Join(got.Alone, " ") != want {
		t.Errorf("alone %v, want %s", got.Alone, want)
	}
	for _, want := range []string{
		at("fifo/compose.yaml") + ": it is a FIFO", at("zero/compose.yaml") + ": it is a link",
		at("endless/compose.yaml") + ": it is a link",
		at("dir/compose.yaml") + ": it is a directory", at("large/compose.yaml") + ": larger than",
		"only a directory is one\" path=" + at("symlink"),
		at("notes.txt"), at("good/images/fifo.tar") + ": it is a FIFO", at("good/images/zero.tar") + ": it is a link",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q:\n%s", want, log)
		}
	}
}

func TestReadAppsNames(t *testing.T) {
	files := map[string]string{"none/README": "", "over/compose.yaml": compose("there", "always"),
		"over/compose.override.yaml": "services: {other: {image: there}}"}
	for i := range load.ComposeFiles() {
		for _, name := range load.ComposeFiles()[i:] {
			files[fmt.Sprintf("a%d/%s", i, name)] = strings.Replace(compose("there", "\"no\""), "web",
				"s"+strings.ReplaceAll(name, ".", ""), 1)
		}
	}
	dir := appsWith(t, files)
	got, log := read(t, dir, Apps{})
	want := "a0.scomposeyaml a1.scomposeyml a2.sdocker-composeyaml a3.sdocker-composeyml over.other over.web"
	if strings.Join(ids(got), " ") != want {
		t.Errorf("wanted %v, want %s", ids(got), want)
	}
	if n := strings.Count(log, "several compose files"); n != 6 {
		t.Errorf("%d files that do not count are named, want 6:\n%s", n, log)
	}
	if len(got.Alone) > 0 || !strings.Contains(log, "app=none") {
		t.Errorf("alone %v, and the log says\n%s", got.Alone, log)
	}
}

// TestReadAppsWhileWritten: of a file that is open for writing nothing is taken, be it good so far.
func TestReadAppsWhileWritten(t *testing.T) {
	for _, name := range []string{"compose.yaml", "images/x.tar"} {
		t.Run(name, func(t *testing.T) {
			dir := appsWith(t, map[string]string{
				"a/compose.yaml": compose("there", "always"), "b/compose.yaml": compose("there", "always"),
				"a/images/x.tar": string(tarWith(t, map[string]string{"index.json": goodIndex})),
			})
			before, _ := read(t, dir, Apps{})
			writer, err := os.OpenFile(filepath.Join(dir, "a", name), os.O_WRONLY|os.O_TRUNC, 0)
			if err == nil {
				_, err = writer.WriteString("services: {other: {image: there, network_mode: host}}")
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, log := read(t, dir, before); strings.Join(ids(got), " ") != "a.web b.web" ||
				!strings.Contains(log, "being written") {
				t.Errorf("while it is written %v:\n%s", ids(got), log)
			}
			if got, _ := read(t, dir, Apps{}); strings.Join(ids(got), " ") != "b.web" || strings.Join(got.Alone,
				" ") != "a" {
				t.Errorf("an app that nobody knows yet: wanted %v, alone %v", ids(got), got.Alone)
			}
			if err := writer.Close(); err != nil {
				t.Fatal(err)
			}
			want := map[bool]string{true: "a.other b.web", false: "a.web b.web"}[name == "compose.yaml"]
			if got, log := read(t, dir, before); strings.Join(ids(got), " ") != want {
				t.Errorf("when it is written %v, want %s:\n%s", ids(got), want, log)
			}
		})
	}
}
