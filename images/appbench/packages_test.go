package appbench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"resinos/bsp/apt"
	"resinos/bsp/boards"
	"resinos/bsp/deb"
)

// peerFiles are what the peer is made of: the newest packages that the board's suite serves.
var peerFiles = map[string][]string{
	"docker.io":      {"usr/sbin/dockerd", "usr/sbin/docker-proxy"},
	"docker-cli":     {"usr/bin/docker"},
	"docker-compose": {"usr/libexec/docker/cli-plugins/docker-compose"},
	"containerd":     {"usr/bin/containerd", "usr/bin/containerd-shim-runc-v2"},
	"runc":           {"usr/sbin/runc"},
	"libc6":          {"usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"},
	"libseccomp2":    {"usr/lib/x86_64-linux-gnu/libseccomp.so.2"},
}

// fetchPeer puts the peer's programs into dir, which is on PATH later, and returns the versions of its packages.
func fetchPeer(ctx context.Context, board boards.Board, cache, dir string) ([]string, error) {
	var versions []string
	for name, files := range peerFiles {
		cfg := apt.For(board, cache)
		found, _, err := apt.Resolve(ctx, cfg, name, []string{name}) // it stands for no other package
		if err != nil {
			return nil, err
		}
		paths, err := apt.Fetch(ctx, cfg, found)
		if err != nil {
			return nil, err
		}
		versions = append(versions, name+" "+found[0].Version)
		if err := extract(paths[found[0].Name], files, dir); err != nil {
			return nil, fmt.Errorf("unpack %s: %w", name, err)
		}
	}
	return versions, findLibraries(filepath.Join(dir, "runc"), filepath.Join(dir, "ld-linux-x86-64.so.2"))
}

// extract puts the files of a package that lie beside the wanted ones into dir: a library is a link to another one.
func extract(pkg string, wanted []string, dir string) error {
	beside := filepath.Dir(wanted[0])
	lies := func(name string) bool { return filepath.Dir(name) == beside || slices.Contains(wanted, name) }
	return deb.Extract(pkg, lies, func(e deb.Entry, r io.Reader) error {
		path := filepath.Join(dir, filepath.Base(e.Name))
		switch {
		case e.Link != "" && !e.Hard:
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return os.Symlink(filepath.Base(e.Link), path)
		case e.Mode.IsRegular():
			return write(path, r)
		}
		return nil
	})
}

func write(path string, r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o755)
}

// findLibraries has a program find its C library and its other libraries beside its linker: this host's may be older.
func findLibraries(program, linker string) error {
	out, err := exec.Command("patchelf", "--set-interpreter", linker, "--force-rpath", "--set-rpath",
		filepath.Dir(linker), program).CombinedOutput()
	if err != nil {
		return fmt.Errorf("patchelf %s: %w: %s", program, err, out)
	}
	return nil
}
