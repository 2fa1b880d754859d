package apppush

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/mounts/testenv"
)

// shop is what docker compose config prints of an app in the directory DIR.
const shop = `
name: shop
services:
  web:
    build: {context: DIR/web, dockerfile: Dockerfile}
    ports: [{mode: ingress, target: 80, published: "8080", protocol: tcp}]
    volumes:
      - {type: bind, source: DIR/conf, target: /conf, bind: {create_host_path: true}}
      - {type: bind, source: DIR/data, target: /data}
      - {type: bind, source: /dev, target: /dev}
      - {type: volume, source: cache, target: /cache, volume: {}}
    secrets: [{source: token}]
    networks: {default: null}
    develop: {watch: []}
    pids_limit: 1000000
  job:
    build: {context: DIR/job}
    image: registry.lan:5000/shop/job:1
    pull_policy: build
    command: [echo, $$HOME]
  db: {image: example/db}
networks: {default: {name: shop_default, ipam: {}}, shared: {name: shared, external: true}}
volumes: {cache: {name: shop_cache}}
secrets: {token: {name: shop_token, file: DIR/token.txt}}
`

// directory is that of the app.
func directory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"conf/a": "A", "conf/sub/b": "B", "token.txt": "secret",
		"web/Dockerfile": "FROM scratch"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(dir, "conf/link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func planOf(t *testing.T, dir string) Plan {
	t.Helper()
	p, err := NewPlan([]byte(strings.ReplaceAll(shop, "DIR", dir)), dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlan(t *testing.T) {
	dir := directory(t)
	p := planOf(t, dir)
	testenv.Golden(t, "shop.golden",
		fmt.Sprintf("app %s\nimages %q\nfiles %q\n%s\n%s", p.App, p.Images, p.Files, p.Compose, p.script()))
	if strings.Contains(string(p.Compose), dir) {
		t.Error("the compose file names a directory of this machine")
	}
}

func TestPlanFaults(t *testing.T) {
	for name, c := range map[string]struct{ config, want string }{
		"name":    {"name: ../x", "name is not of a-z"},
		"no name": {"services: {}", "name is not of a-z"},
		"image":   {"{name: a, services: {b: {build: {}, image: 'x; reboot'}}}", "no name of a container image"},
		"no yaml": {"a: [", "docker compose config"},
		"directory": {"{name: a, services: {b: {volumes: [{type: bind, source: /app, target: /x}]}}}",
			"whole directory"},
	} {
		if _, err := NewPlan([]byte(c.config), "/app"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"kiosk.local": "ssh://root@kiosk.local:22222", "10.0.0.2:22": "ssh://root@10.0.0.2:22",
		"[fe80::1]": "ssh://root@[fe80::1]:22222", "[fe80::1]:2": "ssh://root@[fe80::1]:2",
		"": "", "-oProxyCommand=x": "", "a:": "", "a:b": "", ":2": "",
	} {
		got, err := ParseTarget(text)
		if (err != nil) != (want == "") || err == nil && got.docker() != want {
			t.Errorf("ParseTarget(%q) = %v, %v, want %q", text, got, err, want)
		}
	}
}

// programs puts programs into the path, which are shell scripts.
func programs(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// TestPush: the images are built on the device's daemon, and the device gets the files and then the compose file.
func TestPush(t *testing.T) {
	dir, out := directory(t), t.TempDir()
	programs(t, map[string]string{
		"docker": `echo "$DOCKER_HOST $*" >> ` + out + `/docker`,
		"ssh":    `echo "$*" > ` + out + `/ssh; cat > ` + out + `/tar`,
	})
	target := Target{Host: "kiosk", Port: "2222"}
	p := planOf(t, dir)
	if err := p.Push(t.Context(), dir, target, Streams{io.Discard, io.Discard}); err != nil {
		t.Fatal(err)
	}
	want := "ssh://root@kiosk:2222 compose --project-directory " + dir + " build\n"
	if got := read(t, out+"/docker"); got != want {
		t.Errorf("docker got %q, want %q", got, want)
	}
	if got := read(t, out+"/ssh"); got != "-p 2222 -l root kiosk "+p.script()+"\n" {
		t.Errorf("ssh got %q", got)
	}
	var names []string
	archive := tar.NewReader(bytes.NewReader([]byte(read(t, out+"/tar"))))
	for {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("%s %v %s", head.Name, head.FileInfo().Mode(), head.Linkname))
	}
	wantNames := []string{"conf drwxr-xr-x ", "conf/a -rw-r----- ", "conf/link Lrwxrwxrwx a", "conf/sub drwxr-xr-x ",
		"conf/sub/b -rw-r----- ", "token.txt -rw-r----- ", ".compose.yaml.new -rw------- "}
	if got := strings.Join(names, "\n"); got != strings.Join(wantNames, "\n") {
		t.Errorf("archive holds\n%s\nwant\n%s", got, strings.Join(wantNames, "\n"))
	}
}

// TestPushFails: a device that refuses, a build that fails and a missing client are said, and nobody waits for ever.
func TestPushFails(t *testing.T) {
	dir := directory(t)
	for name, c := range map[string]struct{ docker, ssh, want string }{
		"build":  {"exit 1", "touch " + dir + "/deployed", "docker compose build: exit status 1"},
		"device": {"exit 0", "exit 3", "deploy to kiosk: ssh: exit status 3"},
	} {
		programs(t, map[string]string{"docker": c.docker, "ssh": c.ssh})
		p := planOf(t, dir)
		p.Compose = bytes.Repeat([]byte("x"), 1<<20) // more than a pipe holds
		err := p.Push(t.Context(), dir, Target{Host: "kiosk", Port: "1"}, Streams{io.Discard, io.Discard})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := os.Stat(dir + "/deployed"); err == nil {
		t.Error("what was not built was deployed")
	}
	programs(t, map[string]string{"docker": "echo unknown command; exit 1"})
	if _, err := Read(context.Background(), dir, Streams{io.Discard, io.Discard}); err == nil ||
		!strings.Contains(err.Error(), "docker-compose in Debian") {
		t.Errorf("without the client's plugins: %v", err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
