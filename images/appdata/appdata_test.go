package appdata

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"resinos/containers/app"
	"resinos/containers/composefile"
	"resinos/containers/load"
	"resinos/containers/workload"
	"resinos/images/assemble"
	"resinos/mounts/packed"
)

// shop has each kind of file that an app may have.
var shop = map[string]string{
	"compose.yaml": `services:
  web:
    image: example/web
    env_file: web.env
    volumes: ["./pages:/pages:ro", "./made-later:/later", "data:/data"]
    configs: [motd]
    secrets: [token]
    environment: {FROM: "${GREETING}"}
volumes: {data: }
configs: {motd: {file: ./motd.txt}}
secrets: {token: {file: ./token}}
`,
	"compose.override.yaml": "services: {web: {environment: {MORE: 'yes'}}}\n",
	".env":                  "GREETING=hello\n",
	"web.env":               "A=1\n",
	"pages/index.html":      "<p>", "pages/deep/x.css": "x", "motd.txt": "hi", "token": "secret",
	"images/web.tar": "archive", "Dockerfile": "FROM scratch", "src/main.c": "int main;",
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := fs.FileMode(0o644)
		if name == "token" {
			mode = 0o600
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPlaces: the paths of the device are those of the manager.
func TestPlaces(t *testing.T) {
	if workload.Apps != Mounted+"/"+Apps || workload.Loaded != Mounted+"/"+Loaded {
		t.Errorf("the manager has %s and %s, this package %s, %s and %s",
			workload.Apps, workload.Loaded, Mounted, Apps, Loaded)
	}
}

// TestAdd: what a device needs is added, and nothing else; it knows the app without loading it.
func TestAdd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "Shop")
	write(t, dir, shop)
	program := filepath.Join(t.TempDir(), "compose") // cannot be run
	write(t, filepath.Dir(program), map[string]string{"compose": "no program"})
	version, err := (&packed.Program{Path: program}).Version()
	if err != nil {
		t.Fatal(err)
	}
	tree := &assemble.Tree{}
	if name, err := Add(t.Context(), tree, dir, version); err != nil || name != "shop" {
		t.Fatalf("Add = %q, %v", name, err)
	}
	data := t.TempDir()
	var files []string
	for _, e := range tree.Entries() {
		if !e.Mode.IsRegular() {
			continue
		}
		files = append(files, e.Path)
		content := e.Content
		if e.Source != "" {
			if content, err = os.ReadFile(e.Source); err != nil {
				t.Fatal(err)
			}
		}
		write(t, data, map[string]string{e.Path: string(content)})
		if secret := e.Path == "apps/shop/token" || e.Path == "loaded/shop.json"; secret != (e.Mode == 0o600) {
			t.Errorf("%s has mode %o", e.Path, e.Mode)
		}
	}
	want := []string{"apps/shop/.env", "apps/shop/compose.override.yaml", "apps/shop/compose.yaml",
		"apps/shop/images/web.tar", "apps/shop/motd.txt", "apps/shop/pages/deep/x.css", "apps/shop/pages/index.html",
		"apps/shop/token", "apps/shop/web.env", "loaded/shop.json"}
	if !slices.Equal(files, want) {
		t.Errorf("files:\n%q, want\n%q", files, want)
	}
	l := load.Loader{Program: packed.Program{Path: program}, Kept: filepath.Join(data, Loaded)}
	got, err := l.Load(t.Context(), "shop", filepath.Join(data, "apps/shop"))
	if err != nil {
		t.Fatalf("the device loads it again: %v", err)
	}
	// As the device would load it, which has another directory empty at the place of the app.
	place := filepath.Join(t.TempDir(), "shop")
	read := func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, name)) }
	a, warnings, err := composefile.Load(t.Context(), "shop", place, read)
	if err != nil {
		t.Fatal(err)
	}
	said := strings.ReplaceAll(encoded(t, a, warnings), place, "/mnt/data/apps/shop")
	if kept := encoded(t, got.App, got.Warnings); kept != said {
		t.Errorf("the app is\n%s, want\n%s", kept, said)
	}
}

func encoded(t *testing.T, a app.App, warnings app.Faults) string {
	t.Helper()
	text, err := json.Marshal(load.Result{App: a, Warnings: warnings})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestLeft: what may stand for a file of this machine is loaded by the device, which has other ones.
func TestLeft(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "other.yaml") // is there on this machine, and not on the device
	write(t, filepath.Dir(outside), map[string]string{"other.yaml": "services: {b: {image: y}}"})
	for name, text := range map[string]string{
		"home":    "services: {a: {image: x, volumes: ['~/data:/x']}}",
		"include": "include: [" + outside + "]\nservices: {a: {image: x}}",
		"extends": "services: {a: {image: x, extends: {file: " + outside + ", service: b}}}",
	} {
		dir := filepath.Join(t.TempDir(), "a")
		write(t, dir, map[string]string{"compose.yml": text})
		tree := &assemble.Tree{}
		if _, err := Add(t.Context(), tree, dir, "1"); err != nil {
			t.Fatal(err)
		}
		if _, there := tree.Lookup("loaded"); there {
			t.Errorf("%s: what this machine has is in the image", name)
		}
	}
}

// TestRefused: an error names the file, the line and the remedy, and no directory that is gone.
func TestRefused(t *testing.T) {
	const good = "services: {a: {image: x"
	type files = map[string]string
	for name, c := range map[string]struct {
		files files
		link  string
		want  []string
	}{
		"none":      {files{"compose.json": ""}, "", []string{"compose.yaml"}},
		"fault":     {files{"compose.yaml": good + ", memory: 1}}"}, "", []string{"compose.yaml", "memory"}},
		"outside":   {files{"compose.yaml": good + ", env_file: ../b}}"}, "", []string{"compose.yaml:1", "env_file"}},
		"link":      {files{"compose.yaml": good + "}}"}, "images/x.tar", []string{"images/x.tar is no regular file"}},
		"bound one": {files{"compose.yaml": good + ", volumes: [./d:/d]}}"}, "d/x", []string{"d/x is no regular file"}},
		"large":     {files{"compose.yaml": strings.Repeat("#", load.MaxFile+1)}, "", []string{"yaml", "larger"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a")
			write(t, dir, c.files)
			if c.link != "" {
				write(t, dir, map[string]string{c.link + ".x": ""})
				if err := os.Symlink("/etc/passwd", filepath.Join(dir, c.link)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Add(t.Context(), &assemble.Tree{}, dir, "1")
			if err == nil {
				t.Fatal("it is added")
			}
			for _, want := range append(c.want, dir) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "resin-app-") {
				t.Errorf("error %q names a directory that is gone", err)
			}
		})
	}
}
