package pack_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"resinos/bsp/bundle"
	"resinos/bsp/bundle/trust"
	"resinos/mounts/testenv"
)

// installEnv makes the test binary install a bundle and print what that took: a process of its own, whose memory
// nothing else uses. Its value is the bundle, the slot, and the running slot or nothing; a fourth word says that the
// running slot was written from this bundle, whose index is known.
const installEnv = "RESINOS_TEST_INSTALL"

func TestMain(m *testing.M) {
	if args := os.Getenv(installEnv); args != "" {
		if err := child(strings.Split(args, ":")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child installs and prints how long that took, how long of it was the phase that writes, the largest memory in KiB and
// the bytes that were fetched.
func child(args []string) error {
	keys, err := trust.Load(filepath.Dir(args[0]))
	if err != nil {
		return err
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	begin := time.Now()
	b, err := bundle.Open(io.NewSectionReader(f, 0, st.Size()), keys)
	if err != nil {
		return err
	}
	slot, err := os.OpenFile(args[1], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var seed io.ReaderAt
	size := int64(0)
	if args[2] != "" {
		old, err := os.Open(args[2])
		if err != nil {
			return err
		}
		seed, size = old, b.Manifest().Slot.Size
	}
	if len(args) > 3 {
		list, err := b.Index()
		if err != nil {
			return err
		}
		seed = bundle.Listed{ReaderAt: seed, Index: list}
	}
	fetched := int64(0)
	var entered, left time.Time // the phase that writes
	report := func(p bundle.Progress) {
		switch fetched = p.Fetched; {
		case p.Phase == bundle.Write && entered.IsZero():
			entered = time.Now()
		case p.Phase == bundle.Verify && left.IsZero():
			left = time.Now()
		}
	}
	if err := b.Install(context.Background(), seed, size, bundle.BlockDevice{File: slot}, report); err != nil {
		return err
	}
	took := time.Since(begin)
	status, err := os.Open("/proc/self/status")
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(status); lines.Scan(); {
		var kib int64
		if n, _ := fmt.Sscanf(lines.Text(), "VmHWM: %d kB", &kib); n == 1 {
			fmt.Println(took.Nanoseconds(), left.Sub(entered).Nanoseconds(), kib, fetched)
			return nil
		}
	}
	return errors.New("no VmHWM in /proc/self/status")
}

// TestCost measures rate and memory of an installation by a process of its own, on a loop device, beside a plain write
// of the same content to it: of a slot of 192 MiB with 48 MiB of content if figures count, on disks of several rates,
// and of a small one if not.
func TestCost(t *testing.T) {
	testenv.NeedRoot(t, "loop devices")
	size, used := 3<<20, 1<<20
	limits, rounds := []int{0}, 1
	if testenv.Figures() {
		size, used = 192<<20, 48<<20
		limits, rounds = []int{0, 200e6, 100e6, 50e6, 20e6}, 3
	}
	img := make([]byte, size)
	copy(img[1<<20:], random(1, used))
	half := make([]byte, size)
	copy(half, img[:1<<20+used/2])
	k := newKey(t, "release")
	c := cost{t: t, dir: t.TempDir(), img: img, rounds: rounds}
	c.file("bundle", write(t, manifest(len(img)), img, k))
	c.file(trust.File, trusting(1, k).Encode())
	fast, err := os.MkdirTemp("/dev/shm", "resinos-cost") // the limits are to be the only ones
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(fast) })
	host := [2]string{loopOf(t, c.name("idle"), make([]byte, size)), loopOf(t, c.name("old"), img)}
	memory := [2]string{loopOf(t, fast+"/idle", make([]byte, size)), loopOf(t, fast+"/old", img)}
	for _, limit := range limits {
		disk := memory
		if limit == 0 {
			disk = host
		}
		c.idle, c.old, c.limit = disk[0], disk[1], limit
		c.measure("full", "", make([]byte, size), used)
		c.measure("from the running slot", c.old, make([]byte, size), used)
		c.measure("from the running slot, whose index is known", c.old+":known", make([]byte, size), used)
		c.measure("resumed in the middle", "", half, used/2)
	}
}

// cost measures installations of a bundle in dir.
type cost struct {
	t         *testing.T
	dir       string
	img       []byte // of the slot
	rounds    int
	idle, old string // the devices of the slots
	limit     int    // of both, bytes a second; 0: none
}

func (c *cost) name(n string) string { return filepath.Join(c.dir, n) }

func (c *cost) file(name string, text []byte) {
	if err := os.WriteFile(c.name(name), text, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// measure installs into a slot that holds idle, where so many bytes of content have to be written, beside a plain write
// of as many.
func (c *cost) measure(what, seed string, idle []byte, wrote int) {
	var phase, whole, image []float64 // of the rate of the plain write
	for range c.rounds {
		fill(c.t, c.idle, make([]byte, len(c.img)))
		c.slow(c.limit)
		plain := plainWrite(c.t, c.idle, c.img[1<<20:1<<20+wrote])
		c.slow(0)
		fill(c.t, c.idle, idle)
		c.slow(c.limit)
		m := measure(c.t, c.name("bundle"), c.idle, seed)
		c.slow(0)
		phase = append(phase, 100*float64(plain)/float64(m.writing))
		whole = append(whole, 100*float64(plain)/float64(m.took))
		image = append(image, 100*float64(plain)/float64(m.took)*float64(len(c.img))/float64(wrote))
		c.t.Logf("%s: %v, of this its phase of writing %v; a plain write of %d bytes takes %v; %d KiB of memory, "+
			"%d bytes fetched", what, m.took, m.writing, wrote, plain, m.kib, m.fetched)
		if m.kib > 32<<10 && testenv.Figures() {
			c.t.Errorf("%s: %d KiB of memory, at most 32 MiB", what, m.kib)
		}
	}
	slices.Sort(phase)
	slices.Sort(whole)
	slices.Sort(image)
	middle := c.rounds / 2
	c.t.Logf("%s, disk of %d MB/s (0: no limit), of the rate of a plain write: the phase that writes %.0f %% (%.0f to "+
		"%.0f), the whole %.0f %%, with all bytes of the slot counted %.0f %%, medians of %d",
		what, c.limit/1e6, phase[middle], phase[0], phase[c.rounds-1], whole[middle], image[middle], c.rounds)
}

// slow limits both devices to so many written bytes a second, and three times as many read ones, as cards and eMMCs
// have it; 0 ends the limit. It is that of the root group of blkio (cgroup v1): no group is asked for pages that the
// kernel writes out.
func (c *cost) slow(limit int) {
	for _, device := range []string{c.idle, c.old} {
		number, err := os.ReadFile(filepath.Join("/sys/class/block", filepath.Base(device), "dev"))
		if err != nil {
			c.t.Fatal(err)
		}
		for access, times := range map[string]int{"read": 3, "write": 1} {
			file := "/sys/fs/cgroup/blkio/blkio.throttle." + access + "_bps_device"
			if _, err := os.Stat(file); err != nil && limit > 0 {
				testenv.Lacking(c.t, "limits for disks: %v", err)
			}
			line := fmt.Sprintf("%s %d", strings.TrimSpace(string(number)), times*limit)
			if err := os.WriteFile(file, []byte(line), 0o600); err != nil && limit > 0 {
				c.t.Fatal(err)
			}
		}
	}
}

// measured is what an installation took.
type measured struct {
	took, writing time.Duration
	kib, fetched  int64
}

// measure installs a bundle in a process of its own.
func measure(t *testing.T, file, idle, seed string) (m measured) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), installEnv+"="+file+":"+idle+":"+seed)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(out), &m.took, &m.writing, &m.kib, &m.fetched); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return m
}

// fill writes the whole content of a device, onto the disk.
func fill(t *testing.T, device string, content []byte) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// loopOf attaches a file with a content to a loop device until the test ends. A sync of it waits for the disk.
func loopOf(t *testing.T, file string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	node := testenv.Run(t, "losetup", "-f", "--show", file)
	t.Cleanup(func() { testenv.Run(t, "losetup", "-d", node) })
	return node
}

// plainWrite returns how long the disk takes for the content alone.
func plainWrite(t *testing.T, name string, content []byte) time.Duration {
	t.Helper()
	begin := time.Now()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(content, 1<<20)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}

// BenchmarkInstall installs into memory: what is left is processor time.
func BenchmarkInstall(b *testing.B) {
	k := newKey(b, "release")
	img := make([]byte, 64<<20)
	copy(img[1<<20:], random(1, 16<<20))
	text := write(b, manifest(len(img)), img, k)
	for name, seed := range map[string][]byte{"full": nil, "from the running slot": img} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(16 << 20)
			for b.Loop() {
				empty := &slot{data: make([]byte, len(img))}
				if _, err := install(b, &file{data: text}, trusting(1, k), seed, empty); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
