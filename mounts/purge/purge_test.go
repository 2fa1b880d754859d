package purge

import (
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

var errCut = errors.New("power cut")

// model is a directory on a disk that loses its power at the n-th call. Removals count for the disk only when they are
// synced: until then any of them may be undone.
type model struct {
	names  map[string]bool // as a running system sees them
	stable map[string]bool // as the disk has them
	left   int             // calls until the cut
	random *rand.Rand
}

func (m *model) call() error {
	if m.left--; m.left < 0 {
		return errCut
	}
	return nil
}

func (m *model) list() ([]string, error) { return slices.Sorted(maps.Keys(m.names)), m.call() }

func (m *model) remove(name string) error {
	if err := m.call(); err != nil {
		return err
	}
	delete(m.names, name)
	return nil
}

func (m *model) sync() error {
	if err := m.call(); err != nil {
		return err
	}
	m.stable = maps.Clone(m.names)
	return nil
}

// write brings nothing but its own file to the disk: what else does is the file system's affair, and must not be relied
// on.
func (m *model) write(name string) error {
	if err := m.call(); err != nil {
		if m.random.Intn(2) == 0 {
			m.stable[name] = true
		}
		return err
	}
	m.names[name], m.stable[name] = true, true
	return nil
}

// cut is what the next boot finds.
func (m *model) cut() {
	now := maps.Clone(m.stable)
	for name := range m.stable {
		if !m.names[name] && m.random.Intn(2) == 0 {
			delete(now, name) // this removal made it
		}
	}
	m.names, m.stable = now, maps.Clone(now)
}

func set(names ...string) map[string]bool {
	m := map[string]bool{}
	for _, n := range names {
		m[n] = true
	}
	return m
}

// TestCutAtEveryCall: whenever the power goes, also again and again, the end is a purge that is done, and at no moment
// is there a flag while any of the old content is there.
func TestCutAtEveryCall(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	old := []string{"apps", "containerd", "home"}
	for round := range 500 {
		m := &model{names: set(append(slices.Clone(old), Armed, "lost+found")...), random: random}
		m.stable = maps.Clone(m.names)
		for boots := 0; ; boots++ {
			if m.left = random.Intn(8); boots > 20 {
				m.left = 100
			}
			_, err := apply(m, Place{Name: "data"}, false)
			if err == nil {
				break
			}
			m.cut()
			if m.names[Flag] && (m.names[old[0]] || m.names[old[1]] || m.names[old[2]]) {
				t.Fatalf("round %d: half a purge is taken for a whole one: %v", round, m.names)
			}
		}
		if want := set(Flag, Armed, "lost+found"); !maps.Equal(m.stable, want) {
			t.Fatalf("round %d: left with %v", round, m.stable)
		}
	}
}

func TestPlan(t *testing.T) {
	all := []string{"root-overlay", "update", "last-boot.json", "lost+found"}
	state, _ := Find("state")
	data, _ := Find("data")
	for _, tt := range []struct {
		place Place
		more  []string
		spare bool
		want  string
	}{
		{state, []string{Flag, Armed}, false, "[]"},
		{state, nil, false, "[write remove_me_to_reset write .purge-armed]"},
		{data, []string{Flag}, false, "[write remove_me_to_reset write .purge-armed]"},
		{state, []string{Armed}, false, "[remove root-overlay write out write remove_me_to_reset]"},
		{data, []string{Armed}, false, "[remove root-overlay remove update remove last-boot.json write out write " +
			"remove_me_to_reset]"},
		{data, []string{Armed}, true, "[write remove_me_to_reset]"},
	} {
		if got := fmt.Sprint(Plan(tt.place, append(slices.Clone(all), tt.more...), tt.spare)); got != tt.want {
			t.Errorf("Plan(%s, %v, %v) = %s, want %s", tt.place.Name, tt.more, tt.spare, got, tt.want)
		}
	}
}

func TestRealDirectory(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "kept")
	put := func(path string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("x"),
			0o600)); err != nil {
			t.Fatal(err)
		}
	}
	put(outside)
	place := Place{Name: "data", Target: dir}
	if steps, err := Apply(place, false); err != nil || len(steps) != 2 || Wanted(place) || !Settled(place) {
		t.Fatalf("first use: %v, %v", steps, err)
	}
	if steps, err := Apply(place, false); err != nil || len(steps) != 0 {
		t.Fatalf("second use: %v, %v", steps, err)
	}
	put(dir + "/apps/web/compose.yaml")
	put(dir + "/.hidden")
	if err := os.Symlink(filepath.Dir(outside), dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := Mark(place); err != nil || !Wanted(place) || Settled(place) {
		t.Fatalf("Mark: %v", err)
	}
	if err := Mark(place); err != nil {
		t.Errorf("Mark twice: %v", err)
	}
	if _, err := Apply(place, false); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2 {
		t.Errorf("left: %v, %v", names, err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("what a symlink pointed to: %v", err)
	}
	if _, err := Apply(Place{Name: "none", Target: dir + "/none"}, false); err == nil {
		t.Error("a missing place is purged")
	}
	if err := Mark(Place{Name: "none", Target: dir + "/none"}); err == nil {
		t.Error("a missing place is marked")
	}
}

func TestImmutableFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "deep", "stubborn")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, immutable); err != nil {
		testenv.Lacking(t, "what makes a file immutable: root, and a file system that knows it: %v", err)
	}
	t.Cleanup(func() { _ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0) })
	if err := os.WriteFile(filepath.Join(dir, Armed), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(Place{Name: "data", Target: dir}, false); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("an immutable file is left")
	}
}

func TestFailureIsNamed(t *testing.T) {
	m := &model{names: set(Armed, "a"), stable: set(Armed, "a"), left: 1, random: rand.New(rand.NewSource(1))}
	if _, err := apply(m, Place{Name: "data"}, false); !errors.Is(err, errCut) ||
		!strings.Contains(err.Error(), "remove a") {
		t.Errorf("apply = %v", err)
	}
}
