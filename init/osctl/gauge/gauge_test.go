package gauge

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// tree writes files below a new directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestRead(t *testing.T) {
	root := tree(t, map[string]string{
		"netd/memory.current": "4096\n", "netd/memory.peak": "8192\n", "netd/memory.swap.current": "512\n",
		"netd/pids.current": "7\n",
		"netd/cpu.stat":     "usage_usec 1500000\nuser_usec 1\n", "netd/memory.events": "low 0\noom_kill 2\n",
		"netd/io.stat": "8:0 rbytes=10 wbytes=20 rios=1\n254:0 rbytes=5 wbytes=bad\n", "bare/cgroup.procs": "",
		"file": "",
	})
	got, err := Read(filepath.Join(root, "netd"))
	if want := (Usage{4096, 8192, 512, 1500 * time.Millisecond, 7, 15, 20, 2}); err != nil || got != want {
		t.Errorf("Read = %+v, %v, want %+v", got, err, want)
	}
	got, err = Read(filepath.Join(root, "bare"))
	if want := (Usage{-1, -1, -1, -1, -1, -1, -1, -1}); err != nil || got != want {
		t.Errorf("Read without controllers = %+v, %v, want %+v", got, err, want)
	}
	if _, err := Read(filepath.Join(root, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read of a missing group: %v", err)
	}
	if _, err := Read(filepath.Join(root, "file")); err == nil {
		t.Error("Read of a file has no error")
	}
}

func TestGroups(t *testing.T) {
	root := tree(t, map[string]string{
		"netd/cpu.stat": "", "containers/hello.web/cpu.stat": "", "containerd/main/cpu.stat": "",
		"containerd/hello.db/cpu.stat": "", "cgroup.procs": "",
	})
	list, err := Groups(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range list {
		name := g.Name
		if g.Container {
			name += " (container)"
		}
		got = append(got, name)
	}
	want := []string{"containerd", "netd", "hello.web (container)", "hello.db (container)"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Groups = %q, want %q", got, want)
	}
	if _, err := Groups(filepath.Join(root, "missing")); err == nil {
		t.Error("Groups of a missing root has no error")
	}
}

func TestProcesses(t *testing.T) {
	root := tree(t, map[string]string{
		"g/main/cgroup.procs": "10\n", "g/cgroup.procs": "30\n20\nx\n",
		"p/10/cmdline": "/bin/a\x00b c\x00", "p/10/stat": "10 (a) S 1 10 0 0 0 0 0 0 0 0 150 50 0 0 0 0 0 0 9 9 3 0",
		"p/20/cmdline": "", "p/20/stat": "20 (odd) (name) S 10 10",
	})
	got := Processes(filepath.Join(root, "g"), filepath.Join(root, "p"))
	want := []Process{{10, 1, "/bin/a b c", 2 * time.Second, 3 * int64(os.Getpagesize())},
		{20, 10, "[odd) (name]", 0, 0}, {30, 0, "", 0, 0}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Processes = %+v, want %+v", got, want)
	}
}
