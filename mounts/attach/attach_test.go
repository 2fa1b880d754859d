package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
)

func TestTablePlan(t *testing.T) {
	table, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range table {
		fmt.Fprintln(&b, e)
	}
	testenv.Golden(t, "table.golden", b.String())
}

func TestPlanLeavesOutWhatIsThere(t *testing.T) {
	table, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	have := readTestdata(t)
	var b strings.Builder
	for _, e := range Plan(table, have) {
		fmt.Fprintln(&b, e)
	}
	testenv.Golden(t, "plan.golden", b.String())
	for _, e := range table {
		have = append(have, Mount{Target: e.Target, Type: e.Type})
	}
	if again := Plan(table, have); len(again) != 0 {
		t.Errorf("a second plan still holds %v", again)
	}
}

func TestParseTableFaults(t *testing.T) {
	_, err := ParseTable("x.toml", "[[mount]]\ntarget = \"tmp\"\nflags = [\"setuid\"]\nmode = "+
		"3\n[[mount]]\ntarget=\"/a\"\ntype=\"x\"\n[[mount]]\ntarget=\"/a\"\ntype=\"x\"\n")
	for _, want := range []string{"x.toml:4: unknown key mount.mode", `unknown flag "setuid"`,
		"not a clean absolute path", "type is missing", "/a is named twice"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("faults %v do not name %q", err, want)
		}
	}
	if _, err := ParseTable("x.toml", "[[mount]\n"); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("broken TOML gives %v, want its line", err)
	}
}

func readTestdata(t testing.TB) []Mount {
	text, err := os.ReadFile("testdata/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := ParseMountinfo(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return mounts
}

func TestDetachOrder(t *testing.T) {
	var b strings.Builder
	for _, d := range DetachOrder(readTestdata(t), "/mnt/sysroot") {
		fmt.Fprintln(&b, d)
	}
	testenv.Golden(t, "detach.golden", b.String())
}

func TestMountinfoFields(t *testing.T) {
	got, err := ParseMountinfo(
		`36 35 98:12 /a\040b /c\011d rw,noatime master:1 shared:2 - ext4 /dev/disk\134x rw,errors=continue` + "\n")
	want := Mount{ID: 36, Parent: 35, Major: 98, Minor: 12, Root: "/a b", Target: "/c\td", Flags: "rw,noatime",
		Type: "ext4", Source: `/dev/disk\x`, Super: "rw,errors=continue"}
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("ParseMountinfo = %+v, %v, want %+v", got, err, want)
	}
	// what only looks like a blank is none
	odd, err := ParseMountinfo("36 35 98:0 / /mnt/a\u00a0b\rc\vd rw - ext4 /dev/x rw\n")
	if err != nil || odd[0].Target != "/mnt/a\u00a0b\rc\vd" || odd[0].Flags != "rw" {
		t.Errorf("ParseMountinfo = %+v, %v", odd, err)
	}
	for _, line := range []string{"", "36 35 98:0 / / rw", "a 35 98:0 / / rw - x y z", "36 35 98 / / rw - x y z"} {
		if _, err := ParseMountinfo(line + "\n"); err == nil {
			t.Errorf("ParseMountinfo(%q) succeeds", line)
		}
	}
}

func FuzzParseMountinfo(f *testing.F) {
	text, err := os.ReadFile("testdata/mountinfo")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("1 1 0:1 / / rw - x y z\n2 1 0:1 / /\\040 rw - x y z")
	f.Add("1 2 0:1 / /a rw - x y z\n2 1 0:1 / /a/b rw - x y z\n") // parents in a circle
	f.Fuzz(func(t *testing.T, text string) {
		mounts, err := ParseMountinfo(text)
		if err != nil {
			return
		}
		if steps := DetachOrder(mounts); len(steps) > len(mounts) {
			t.Errorf("%d steps for %d mounts", len(steps), len(mounts))
		}
	})
}

func TestEnsureTwiceAndDetach(t *testing.T) {
	if !testenv.InNamespace(t) {
		return
	}
	dir := t.TempDir()
	e := Entry{Name: "test", Target: filepath.Join(dir, "new/tmp"), Type: "tmpfs", Flags: []string{"nosuid", "noexec"},
		Options: "size=1m,mode=0700"}
	for range 2 {
		if err := Ensure(e); err != nil {
			t.Fatal(err)
		}
	}
	mounts, err := ReadMounts()
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, m := range mounts {
		if m.Target == e.Target {
			count++
		}
	}
	if m, _ := At(mounts, e.Target); count != 1 || !strings.Contains(m.Flags, "noexec") {
		t.Errorf("attached %d times, %+v", count, m)
	}
	if err := Apply(Entry{Target: dir, Type: "ext4", Source: "/dev/no-such-disk"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Apply of a missing source = %v, want not exist", err)
	}
	// A file held open for reading makes it busy: the step must detach it lazily, and read-only.
	held, err := os.Create(filepath.Join(e.Target, "held"))
	if err != nil {
		t.Fatal(err)
	}
	held.Close()
	held, err = os.Open(held.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	step := Detach{Way: Unmount, Target: e.Target}
	for range 2 {
		if err := step.Apply(); err != nil {
			t.Errorf("detach: %v", err)
		}
	}
	if mounts, _ = ReadMounts(); len(mounts) == 0 {
		t.Error("no mounts left at all")
	}
	if _, found := At(mounts, e.Target); found {
		t.Error("still attached after detach")
	}
}

func TestLoopAttachesReadOnlyAndFrees(t *testing.T) {
	if !testenv.InNamespace(t) {
		return
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		testenv.Lacking(t, "loop devices: %v", err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "image")
	testenv.Run(t, "mke2fs", "-q", "-t", "ext4", file, "4M")
	node, handle, err := Loop(file)
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "target")
	err = Apply(Entry{Source: node, Target: target, Type: "ext4", Flags: []string{"ro"}, Options: "noload"})
	handle.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(target, "x"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("write = %v, want EROFS", err)
	}
	if err := (Detach{Way: Unmount, Target: target}).Apply(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile("/sys/block/" + filepath.Base(node) + "/loop/backing_file"); err == nil &&
		strings.Contains(string(b), file) {
		t.Errorf("%s still holds %s", node, b)
	}
	if _, _, err := Loop(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Loop of a missing file = %v", err)
	}
}
