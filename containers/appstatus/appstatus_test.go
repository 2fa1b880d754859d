package appstatus

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPull(t *testing.T) {
	for p, want := range map[Pull]string{
		{}:                                    "pulling",
		{Waiting: true}:                       "waiting to be pulled",
		{Done: 34_900_000, Size: 100_000_000}: "pulling 34 of 100 MB",
		{Done: 3, Size: 7}:                    "pulling 0 of 1 MB",
	} {
		if got := p.String(); got != want {
			t.Errorf("%+v = %q, want %q", p, got, want)
		}
	}
}

func TestSum(t *testing.T) {
	loop := Trouble{CrashLoop, "ended 4 times", 7}
	for name, c := range map[string]struct {
		app  App
		want App
	}{
		"all up": {App{Containers: []Container{{Name: "a", State: Up, Entered: 3, Restarts: 1},
			{Name: "b", State: Done, Entered: 4, Restarts: 2}}},
			App{State: Up, Entered: 3, Restarts: 3}},
		"the worst counts": {App{Containers: []Container{{Name: "a", State: Up}, {Name: "b", State: Backoff, Entered: 9,
			Trouble: loop}, {Name: "c", State: Starting}}},
			App{State: Backoff, Entered: 9, Trouble: Trouble{CrashLoop, "b: ended 4 times", 7}}},
		"a loop in a moment in which it runs": {App{Containers: []Container{{Name: "a", State: Up, Entered: 1,
			Trouble: loop}}},
			App{State: Up, Entered: 1, Trouble: Trouble{CrashLoop, "a: ended 4 times", 7}}},
		"a trouble of its own": {App{State: GivenUp, Entered: 2, Trouble: Trouble{NotUnderstood, "line 3", 2},
			Containers: []Container{{Name: "a", State: Up, Trouble: loop}}},
			App{State: GivenUp, Entered: 2, Trouble: Trouble{NotUnderstood, "line 3", 2}}},
	} {
		got := c.app
		got.Sum()
		if got.Containers = nil; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if got.Well() != (c.want.State == Up && c.want.Cause == "") {
			t.Errorf("%s: Well() = %v", name, got.Well())
		}
	}
}

func TestPublishAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "apps.json")
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing published: %v", err)
	}
	s := Status{Written: 12.5, Apps: []App{{Name: "hello", State: Up,
		Containers: []Container{{Name: "web", ID: "hello.web", State: Up, LastExit: "out of memory"}}}}}
	for range 2 {
		if err := Publish(path, s); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(path); err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("read %+v, %v", got, err)
		}
	}
	later := s
	if later.Written = 13; !Same(s, later) {
		t.Error("the time of writing counts as a change")
	}
	later.Apps = []App{{Name: "hello", State: Done}}
	if Same(s, later) {
		t.Error("another state is the same")
	}
	if files, err := os.ReadDir(filepath.Dir(path)); len(files) != 1 || err != nil {
		t.Errorf("left beside it: %v, %v", files, err)
	}
}

// TestReadWhatIsNoStatus: none of it blocks, and none is taken for a status.
func TestReadWhatIsNoStatus(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"garbage": "{\"apps\": 5}", "half": "{\"apps\": [{\"name\"", "empty": "",
		"huge": strings.Repeat(" ", maxSize+2)} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "garbage"), link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, link, dir} {
		if _, err := Read(path); err == nil {
			t.Errorf("%s was read", path)
		}
	}
}
