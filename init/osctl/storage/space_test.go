package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/init/osctl/cli"
	"resinos/mounts/purge"
	"resinos/mounts/quota"
	"resinos/mounts/testenv"
)

const sampleMounts = `21 20 7:0 / / ro - squashfs /dev/loop0 ro
30 21 254:1 / /mnt/boot rw - vfat /dev/vda1 rw,errors=remount-ro
31 21 254:4 / /mnt/state ro - ext4 /dev/vda4 ro,errors=remount-ro
32 21 254:5 / /mnt/data rw - ext4 /dev/vda5 rw,errors=remount-ro
`

// storage is a device with full partitions of the given kinds below its root.
func storage(t *testing.T, mounts string) (*session, *bytes.Buffer) {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"proc/self", "mnt/boot", "mnt/state/root-overlay", "mnt/data/apps/hello"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"proc/self/mountinfo": mounts, "mnt/data/apps/hello/compose.yaml": "services: {}\n",
		"mnt/state/" + purge.Flag: "", "mnt/state/" + purge.Armed: "", "mnt/data/" + purge.Flag: "",
		"mnt/data/" + purge.Armed: "",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := &bytes.Buffer{}
	s := &session{&cli.Session{Env: cli.Env{Stdout: out, Stderr: io.Discard, Root: root}, Now: nil}}
	s.Statfs = func(path string, st *unix.Statfs_t) error {
		st.Bsize, st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree = 4096, 16384, 16000, 15800, 100, 50
		switch filepath.Base(path) {
		case "data":
			st.Bfree, st.Bavail = 300, 0
		case "boot":
			st.Bavail, st.Files, st.Ffree = 500, 0, 0
		}
		return nil
	}
	return s, out
}

func TestSpace(t *testing.T) {
	s, out := storage(t, sampleMounts)
	if err := os.RemoveAll(filepath.Join(s.Root, "mnt/data")); err != nil { // who fills it: see TestFilledBy
		t.Fatal(err)
	}
	if err := Show(context.Background(), s.Session, flag.NewFlagSet("space", flag.ContinueOnError), nil); err != nil {
		t.Fatal(err)
	}
	if err := Show(context.Background(), s.Session, flag.NewFlagSet("space", flag.ContinueOnError),
		[]string{"--json"}); err != nil {
		t.Fatal(err)
	}
	testenv.Golden(t, "space.golden", out.String())
	var list []Space
	if err := json.Unmarshal(out.Bytes()[bytes.IndexByte(out.Bytes(), '['):], &list); err != nil || len(list) != 4 {
		t.Errorf("JSON: %v, %v", list, err)
	}
	s, _ = storage(t, strings.ReplaceAll(sampleMounts, "ext4 /dev/vda5", "tmpfs tmpfs"))
	for _, p := range Spaces(s.Session) {
		if in := len(p.Marks) > 0 && p.Marks[0] == InRAM; in != (p.Name == "data") {
			t.Errorf("%s has the marks %v", p.Name, p.Marks)
		}
	}
	s, _ = storage(t, "21 20 7:0 / / ro - squashfs /dev/loop0 ro\n")
	if err := Show(context.Background(), s.Session, flag.NewFlagSet("space", flag.ContinueOnError), nil); err == nil {
		t.Error("a machine without our partitions has space")
	}
}

// TestSpaceOfContainers: what they may take ends at their limit, or where the system has left nothing of it.
func TestSpaceOfContainers(t *testing.T) {
	limited := strings.ReplaceAll(sampleMounts, "/dev/vda5 rw,", "/dev/vda5 rw,prjquota,")
	limit := quota.Amount{Space: 40 << 20, Files: 1000}
	for name, tt := range map[string]struct {
		mounts      string
		used, limit quota.Amount
		fault       error
		free, files int64
		mark        Mark
		note        string
	}{
		"room": {mounts: limited, used: quota.Amount{Space: 10 << 20, Files: 960}, limit: limit, free: 20 << 20,
			files: 40, mark: Tight},
		"more than it may": {mounts: limited, used: quota.Amount{Space: 41 << 20, Files: 10}, limit: limit, files: 50,
			mark: Full},
		"no file": {mounts: limited, used: quota.Amount{Space: 10 << 20, Files: 1000}, limit: limit,
			free: 20 << 20, mark: NoInodes},
		"no quotas":      {mounts: sampleMounts, fault: unix.ESRCH, free: -1, files: -1, note: unlimited},
		"no limit yet":   {mounts: limited, used: quota.Amount{Files: 3}, free: -1, files: -1, note: unset},
		"nobody may ask": {mounts: limited, fault: unix.EPERM, free: -1, files: -1, note: unix.EPERM.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := storage(t, tt.mounts)
			s.Statfs = func(_ string, st *unix.Statfs_t) error {
				st.Bsize, st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree = 4096, 16384, 6000, 5120, 1024, 50
				return nil
			}
			s.Observe = func(string) (quota.Amount, quota.Amount, error) { return tt.used, tt.limit, tt.fault }
			all := Spaces(s.Session)
			p := all[len(all)-1]
			if p.Name != "containers" || p.Free != tt.free || p.FilesFree != tt.files || p.Note != tt.note {
				t.Errorf("spaces gives %+v", p)
			}
			if tt.mark == "" && p.Marks != nil || tt.mark != "" && (len(p.Marks) != 1 || p.Marks[0] != tt.mark) {
				t.Errorf("marks %q, want %q", p.Marks, tt.mark)
			}
		})
	}
}

// TestFilledBy: who uses data is told where it is full, and where somebody asks.
func TestFilledBy(t *testing.T) {
	s, out := storage(t, sampleMounts+strings.Repeat("99 21 0:40 / /run/x rw - tmpfs tmpfs rw\n", 3000))
	tell := func(args ...string) string {
		out.Reset()
		if err := Show(t.Context(), s.Session, flag.NewFlagSet("space", flag.ContinueOnError), args); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if text := tell(); !strings.Contains(text, "\napp hello ") || !strings.Contains(text, "63M more have no name") {
		t.Errorf("data is full, and there is\n%s", text)
	}
	s.Statfs = func(_ string, st *unix.Statfs_t) error {
		st.Bsize, st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree = 4096, 16384, 16000, 15800, 100, 50
		return nil
	}
	if text := tell(); strings.Contains(text, "USED BY") {
		t.Errorf("with room there is a count:\n%s", text)
	}
	if text := tell("--who"); !strings.Contains(text, "\napp hello ") || strings.Contains(text, "belong to no name") {
		t.Errorf("asked for, there is\n%s", text)
	}
	if text := tell("--who", "--json"); !strings.Contains(text, `"who": "app hello"`) {
		t.Errorf("in JSON there is\n%s", text)
	}
}

func TestPurge(t *testing.T) {
	s, out := storage(t, sampleMounts)
	run := func(args ...string) error {
		out.Reset()
		return Purge(context.Background(), s.Session, flag.NewFlagSet("purge", flag.ContinueOnError), args)
	}
	there := func(name string) bool {
		_, err := os.Stat(filepath.Join(s.Root, "mnt", name, purge.Flag))
		return err == nil
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "needs a partition"}, {[]string{"state", "data"}, "needs a partition"},
		{[]string{"nothing"}, "no partition or app is called"},
		{[]string{"../../etc"}, "no partition or app is called"}, {[]string{"--yes", "hello"},
			"apps have no volumes yet"}, {[]string{"state"}, "not confirmed"},
	} {
		if err := run(tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("purge %v = %v, want %q", tt.args, err, tt.want)
		}
	}
	if err := run("-n", "data"); err != nil || !there("data") || !strings.Contains(out.String(), "all apps") {
		t.Errorf("purge -n: %v: %s", err, out)
	}
	if err := run("-n", "state"); err != nil ||
		!strings.Contains(out.String(), "not config.json, and so neither UUID nor host name") {
		t.Errorf("purge -n: %v: %s", err, out)
	}
	if err := run("--yes", "state"); err != nil || there("state") || !there("data") || !strings.Contains(out.String(),
		"osctl reboot") || !strings.Contains(out.String(), "rm -f /mnt/boot/config.json*") {
		t.Errorf("purge state: %v: %s", err, out)
	}
	if err := run("--yes", "state"); err != nil || !strings.Contains(out.String(), "marked already") {
		t.Errorf("purge twice: %v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(s.Root, "mnt/state/root-overlay")); err != nil {
		t.Errorf("something is removed before the reboot: %v", err)
	}
	s, out = storage(t, strings.ReplaceAll(sampleMounts, "ext4 /dev/vda4", "tmpfs tmpfs"))
	if err := run("--yes", "state"); err == nil || !strings.Contains(err.Error(), "its replacement in RAM") ||
		!there("state") {
		t.Errorf("purge of a stand-in: %v", err)
	}
}

// TestPurgeOfWhatIsLost: data that cannot be attached is marked on the state partition, if that is one.
func TestPurgeOfWhatIsLost(t *testing.T) {
	lost := strings.ReplaceAll(sampleMounts, "ext4 /dev/vda5", "tmpfs tmpfs")
	if lost == sampleMounts {
		t.Fatal("the sample has no data")
	}
	s, out := storage(t, lost)
	run := func(args ...string) error {
		out.Reset()
		return Purge(context.Background(), s.Session, flag.NewFlagSet("purge", flag.ContinueOnError), args)
	}
	p, _ := purge.Find("data")
	p.Request = filepath.Join(s.Root, p.Request)
	if err := run("-n", "data"); err != nil || purge.Asked(p) || !strings.Contains(out.String(), "all apps") {
		t.Errorf("purge -n: %v: %s", err, out)
	}
	if err := run("data"); err == nil || !strings.Contains(err.Error(), "not confirmed") || purge.Asked(p) {
		t.Errorf("purge without a word: %v", err)
	}
	if err := run("--yes", "data"); err != nil || !purge.Asked(p) || !strings.Contains(out.String(), "rm "+p.Request) {
		t.Errorf("purge: %v: %s", err, out)
	}
	if err := run("--yes", "data"); err != nil || !strings.Contains(out.String(), "marked already") {
		t.Errorf("purge twice: %v: %s", err, out)
	}
	if err := purge.Answer(p); err != nil || purge.Asked(p) {
		t.Errorf("Answer = %v", err)
	}
	s, _ = storage(t, strings.ReplaceAll(lost, "ext4 /dev/vda4", "tmpfs tmpfs"))
	if err := run("--yes", "data"); err == nil || !strings.Contains(err.Error(), "neither this partition nor") {
		t.Errorf("purge when all is lost: %v", err)
	}
}
