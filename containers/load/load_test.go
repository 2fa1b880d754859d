package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/packed"
	"resinos/mounts/testenv"
)

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "compose-test-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "compose"), "resinos/init/tools")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("build compose: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := build(); dir != "" {
		os.RemoveAll(dir) // what stays costs only space
	}
	os.Exit(code)
}

// loaderFor returns a loader that keeps results in a directory of the test.
func loaderFor(t testing.TB) *Loader {
	t.Helper()
	if os.Getuid() != 0 {
		testenv.Lacking(t, "root, for namespaces")
	}
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return &Loader{Program: packed.Program{Path: filepath.Join(dir, "compose")},
		Kept: filepath.Join(t.TempDir(), "kept")}
}

func appWith(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop")
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

const shop = "services:\n  web:\n    image: busybox:${TAG:-1}\n    env_file: env/web.env\n"

// TestLoad: the program runs when one of the files has changed, be it that it comes to be, and not otherwise.
func TestLoad(t *testing.T) {
	l := loaderFor(t)
	dir := appWith(t, map[string]string{"compose.yaml": shop, ".env": "TAG=1\n", "env/web.env": "A=1\n"})
	see := func(what, image, environment string) {
		t.Helper()
		r, err := l.Load(t.Context(), "shop", dir)
		if err != nil || len(r.App.Containers) != 1 {
			t.Fatalf("%s: %+v, %v", what, r, err)
		}
		c := r.App.Containers[0]
		if c.Image != "docker.io/library/busybox:"+image || strings.Join(c.Environment, " ") != environment {
			t.Errorf("%s: image %s, environment %v", what, c.Image, c.Environment)
		}
	}
	see("new", "1", "A=1")
	program := l.Program
	l.Program.Path = "/nonexistent"
	see("unchanged", "1", "A=1")
	l.Program = program
	write(t, filepath.Join(dir, "env/web.env"), "A=2\n")
	see("another file of variables", "1", "A=2")
	write(t, filepath.Join(dir, "compose.override.yaml"), "services: {web: {environment: {B: 3}}}\n")
	see("a file that was not there", "1", "A=2 B=3")
	if err := os.Remove(filepath.Join(dir, "compose.override.yaml")); err != nil {
		t.Fatal(err)
	}
	see("a file that is not there any more", "1", "A=2")
	write(t, filepath.Join(dir, ".env"), "TAG=2\n")
	see("another variable", "2", "A=2")
}

// TestSecondFileDoesNotCount: what lies beside the compose file under another of its names is named, be it a FIFO.
func TestSecondFileDoesNotCount(t *testing.T) {
	l := loaderFor(t)
	dir := appWith(t, map[string]string{"compose.yaml": shop, "env/web.env": ""})
	if err := unix.Mkfifo(filepath.Join(dir, "compose.yml"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := l.Load(t.Context(), "shop", dir)
	const want = "several compose files, the first counts: compose.yaml, not compose.yml"
	if err != nil || len(r.Faults) > 0 || !strings.Contains(r.Warnings.Error(), want) {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestKept: a result outlives the manager; what is torn or foreign is loaded again, and so is everything for another
// program.
func TestKept(t *testing.T) {
	l := loaderFor(t)
	dir := appWith(t, map[string]string{"compose.yaml": shop, "env/web.env": ""})
	load := func(l *Loader) error {
		_, err := l.Load(t.Context(), "shop", dir)
		return err
	}
	if err := load(l); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(l.path("shop"))
	if err != nil {
		t.Fatal(err)
	}
	broken := &Loader{Program: packed.Program{Path: filepath.Join(t.TempDir(), "compose")}, Kept: l.Kept}
	text, err := os.ReadFile(l.Program.Path)
	if err != nil {
		t.Fatal(err)
	}
	clear(text[4096:]) // the version is that of the whole one
	if err := os.WriteFile(broken.Program.Path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := load(broken); err != nil {
		t.Errorf("what is kept is not used: %v", err)
	}
	for name, text := range map[string]string{
		"torn": string(whole[:len(whole)/2]), "empty": "", "garbage": strings.Repeat("\xff", 100),
		"flipped": strings.Replace(string(whole), "busybox", "busyb0x", 1),
	} {
		t.Run(name, func(t *testing.T) {
			write(t, l.path("shop"), text)
			fresh := &Loader{Program: broken.Program, Kept: l.Kept}
			if err := load(fresh); err == nil {
				t.Error("it is believed")
			}
			fresh = &Loader{Program: l.Program, Kept: l.Kept}
			if err := load(fresh); err != nil {
				t.Error(err)
			}
		})
	}
	if err := os.WriteFile(broken.Program.Path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := load(&Loader{Program: broken.Program, Kept: l.Kept}); err == nil {
		t.Error("the result of another program is used")
	}
	write(t, l.path("gone"), "x")
	write(t, filepath.Join(l.Kept, "rest"), "x")
	if err := l.Forget(func(name string) bool { return name == "shop" }); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(l.Kept); len(left) != 1 {
		t.Errorf("%v is kept", left)
	}
}

// TestHostile: each is one line that names the app, the field and the remedy, soon, and no file of the device is read.
func TestHostile(t *testing.T) {
	l := loaderFor(t)
	l.limit = time.Hour // memory and processor time are what ends it, however slow the host is
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "SECRET=told\n")
	for name, c := range map[string]struct {
		files   map[string]string
		prepare func(dir string) error
		want    string
	}{
		"bomb": {map[string]string{"compose.yaml": bomb()}, nil, "excessive aliasing"},
		"large": {map[string]string{}, func(dir string) error {
			f, err := os.Create(filepath.Join(dir, "compose.yaml"))
			if err == nil {
				err = errors.Join(f.Truncate(100<<20), f.Close())
			}
			return err
		}, "larger than 262144 bytes"},
		"fifo": {map[string]string{}, func(dir string) error {
			return unix.Mkfifo(filepath.Join(dir, "compose.yaml"),
				0o600)
		},
			"it is a FIFO"},
		"env_fifo": {map[string]string{"compose.yaml": "services:\n  x:\n    image: a\n    env_file: f\n"},
			func(dir string) error { return unix.Mkfifo(filepath.Join(dir, "f"), 0o600) },
			"compose.yaml:4: services.x.env_file: open "},
		"link": {map[string]string{}, func(dir string) error {
			return os.Symlink(secret, filepath.Join(dir,
				"compose.yaml"))
		},
			"it is a link"},
		"linked_directory": {map[string]string{"compose.yaml": "services: {x: {image: a, env_file: d/secret}}\n"},
			func(dir string) error { return os.Symlink(filepath.Dir(secret), filepath.Join(dir, "d")) },
			"leads over a link"},
		"outside": {map[string]string{"compose.yaml": "services: {x: {image: a, env_file: " + secret + "}}\n"}, nil,
			"lies outside of the app's directory"},
		"dots": {map[string]string{"compose.yaml": "include: [../../etc/passwd]\nservices: {x: {image: a}}\n"}, nil,
			"lies outside of the app's directory"},
		"name": {map[string]string{"compose.yaml": "services: {../x: {image: a}}\n"}, nil, "../x"},
		"proc": {map[string]string{"compose.yaml": "include: [/proc/self/environ]\nservices: {x: {image: a}}\n"},
			nil, "lies outside"},
		"many": {map[string]string{"compose.yaml": many(1000)}, nil, "1000 containers, at most 100"},
		"endless": {map[string]string{"compose.yaml": "services: {x: {image: a, ports: ['1-65535:1-65535']}}\n"}, nil,
			"too large"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := appWith(t, map[string]string{"README": ""})
			for file, text := range c.files {
				write(t, filepath.Join(dir, file), text)
			}
			if c.prepare != nil {
				if err := c.prepare(dir); err != nil {
					t.Fatal(err)
				}
			}
			r, err := l.Load(t.Context(), "shop", dir)
			l.last = nil // the next one is another app of this name
			said := r.Faults.Error()
			if err != nil {
				said = err.Error()
			}
			if !strings.Contains(said, c.want) || strings.Contains(said, "\n") || strings.Contains(said, "told") ||
				!strings.Contains(said, dir) {
				t.Errorf("it says %q, want one line with %s and %q", said, dir, c.want)
			}
		})
	}
}

func bomb() string {
	var b strings.Builder
	b.WriteString("x-0: &a0 [lol]\n")
	for i := range 20 {
		fmt.Fprintf(&b, "x-%d: &a%d [%s]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d,", i), 9))
	}
	return b.String() + "services: {x: {image: a, labels: *a20}}\n"
}

func many(n int) string {
	var b strings.Builder
	b.WriteString("services:\n")
	for i := range n {
		fmt.Fprintf(&b, "  s%d: {image: a}\n", i)
	}
	return b.String()
}

// TestBusy: while a file is written nothing is said of the app, and afterwards what is true then.
func TestBusy(t *testing.T) {
	l := loaderFor(t)
	dir := appWith(t, map[string]string{"compose.yaml": shop, "env/web.env": "A=1\n"})
	if _, err := l.Load(t.Context(), "shop", dir); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "env/web.env"), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*Loader{l, {Program: l.Program}} {
		if _, err := l.Load(t.Context(), "shop", dir); !errors.Is(err, ErrBusy) {
			t.Errorf("while it is written: %v", err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := l.Load(t.Context(), "shop", dir); err != nil || len(r.App.Containers[0].Environment) != 0 {
		t.Errorf("afterwards: %+v, %v", r, err)
	}
}

// TestProgramDies: whatever the program does, loading fails soon and says what happened.
func TestProgramDies(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"silent":  {"exit 0", "ended early"},
		"fails":   {"echo it is broken >&2; exit 1", "it is broken"},
		"crashed": {"exit 2", "too large"}, // as a Go program without memory does
		"garbage": {"echo garbage; sleep 1000", "invalid character"},
		"curious": {`echo '{"Read":"../../etc/passwd"}'; sleep 1000`, "asked for"},
		"liar":    {`echo '{"Done":{"App":{"Name":"other"}}}'`, `of app "other"`},
		"endless": {`while :; do echo '{"Read":"compose.yaml"}'; read x; done`, "more than 512 files"},
		"late":    {"sleep 1000", "too late"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := appWith(t, map[string]string{"compose.yaml": shop})
			l := &Loader{Program: packed.Program{Path: filepath.Join(t.TempDir(), "compose")}}
			if err := os.WriteFile(l.Program.Path, []byte("#!/bin/sh\n"+c.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			if name == "late" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, 100*time.Millisecond, errors.New("too late"))
				defer cancel()
			}
			if _, err := l.Load(ctx, "shop", dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// BenchmarkLoad is one start of the program for an app of two services.
func BenchmarkLoad(b *testing.B) {
	l := loaderFor(b)
	l.Kept = ""
	dir := appWith(b, map[string]string{"compose.yaml": shop + "  db: {image: postgres}\n", "env/web.env": "A=1\n"})
	for b.Loop() {
		l.last = nil
		if r, err := l.Load(b.Context(), "shop", dir); err != nil || len(r.Faults) > 0 {
			b.Fatal(r, err)
		}
	}
}
