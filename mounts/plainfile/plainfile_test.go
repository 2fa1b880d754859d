package plainfile_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/plainfile"
)

// stage puts one of each kind of file into a directory.
func stage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: at("socket"), Net: "unix"})
	if err == nil {
		t.Cleanup(func() { socket.Close() })
	}
	err = errors.Join(err,
		os.WriteFile(at("file"), []byte("12345"), 0o600),
		unix.Mkfifo(at("fifo"), 0o600),
		os.Mkdir(at("directory"), 0o700),
		os.Symlink("/dev/zero", at("zero")),
		os.Symlink("endless", at("endless")),
		os.Symlink("file", at("link")))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Each case would block, read for ever or be refused by the kernel in words that help nobody.
func TestRead(t *testing.T) {
	dir := stage(t)
	for name, want := range map[string]string{
		"fifo": "fifo: it is a FIFO", "directory": "it is a directory", "socket": "it is a socket",
		"zero":    "it is a link",
		"endless": "it is a link", "link": "it is a link",
	} {
		if data, err := plainfile.Read(filepath.Join(dir, name), 10); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("Read(%s) = %q, %v, want %q", name, data, err, want)
		}
	}
	if _, err := plainfile.Read("/dev/null", 10); err == nil || !strings.Contains(err.Error(), "it is a device") {
		t.Errorf("Read(/dev/null): %v", err)
	}
	if _, err := plainfile.Read(filepath.Join(dir, "none"), 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read of nothing: %v", err)
	}
	if data, err := plainfile.Read(filepath.Join(dir, "file"), 5); err != nil || string(data) != "12345" {
		t.Errorf("Read(file) = %q, %v", data, err)
	}
	if data, err := plainfile.Read(filepath.Join(dir, "file"), 4); err == nil ||
		!strings.Contains(err.Error(), "larger than 4 bytes") {
		t.Errorf("Read of a file above the limit = %q, %v", data, err)
	}
}

func TestOpenIn(t *testing.T) {
	dir := stage(t)
	if err := os.Symlink("/file", filepath.Join(dir, "absolute")); err != nil {
		t.Fatal(err)
	}
	for name, good := range map[string]bool{"file": true, "link": true, "absolute": true, "/file": true,
		"../../file": true, "fifo": false, "zero": false, "endless": false, "directory": false} {
		f, err := plainfile.OpenIn(dir, name)
		if (err == nil) != good {
			t.Errorf("OpenIn(%s): %v", name, err)
		}
		if err == nil {
			if data, err := plainfile.ReadAll(f, 5); err != nil || string(data) != "12345" {
				t.Errorf("OpenIn(%s) reads %q, %v", name, data, err)
			}
			f.Close()
		}
	}
}
