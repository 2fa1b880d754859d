package bootbench

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"resinos/bsp/boards"
	"resinos/images/build"
	"resinos/images/qemu"
	"resinos/mounts/testenv"
)

// Environment of the bench.
const (
	benchVariable  = "RESINOS_BENCH"  // must be set: seconds are valid only on an idle host
	roundsVariable = "RESINOS_ROUNDS" // how often each machine boots; 5
	// if set: instructions are counted instead of seconds, which another load on the host does not change
	countVariable  = "RESINOS_COUNT"
	memoryVariable = "RESINOS_MEMORY" // "0" leaves out the memory, which takes two minutes a boot
	onlyVariable   = "RESINOS_ONLY"   // if set: a regular expression of the names of the machines to boot
	// an image that was built earlier with the bench's app, to be measured instead of a new one
	imageVariable  = "RESINOS_IMAGE"
	verityVariable = "RESINOS_VERIFIED" // if set: the root of the new image has a hash tree
	top            = "../.."            // of the source tree, as seen from this package
	boardName      = "qemu-x86_64"
	countShift     = 3 // 8 ns an instruction, near what this host's guests take without counting
)

// A machine is one that is measured.
type machine struct {
	name    string
	ours    bool
	options qemu.Options
}

// TestBootBench boots ours and the peer in turn and prints medians and ratios; make bench-boot runs it.
func TestBootBench(t *testing.T) {
	if os.Getenv(benchVariable) == "" {
		t.Skip("set " + benchVariable + "=1")
	}
	testenv.NeedPrograms(t, "qemu-system-x86_64", "qemu-img", "mke2fs", "debugfs")
	rounds := 5
	if n, err := strconv.Atoi(os.Getenv(roundsVariable)); err == nil && n > 0 {
		rounds = n
	}
	machines, versions, err := prepare(t)
	if err != nil {
		t.Fatal(err)
	}
	samples := map[string][]sample{}
	for round := range rounds {
		for _, m := range machines {
			got, err := measure(t.Context(), m.options, m.ours, os.Getenv(memoryVariable) != "0")
			if err != nil {
				t.Fatalf("round %d, %s: %v", round+1, m.name, err)
			}
			t.Logf("round %d, %s: %v", round+1, m.name, got)
			samples[m.name] = append(samples[m.name], got)
		}
	}
	r := newReport(machines, samples, versions, os.Getenv(countVariable) != "")
	fmt.Print(r.table())
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	name := "boot-seconds.json"
	if r.Counted {
		name = "boot-instructions.json"
	}
	if err := os.WriteFile(filepath.Join(top, "build", "bench", name), append(text, '\n'), 0o644); err != nil {
		t.Error(err)
	}
}

// prepare makes the images of all machines, in build/bench.
func prepare(t *testing.T) (machines []machine, versions []string, err error) {
	ctx := t.Context()
	dir, err := filepath.Abs(filepath.Join(top, "build", "bench"))
	if err != nil {
		return nil, nil, err
	}
	cache := filepath.Join(top, ".cache")
	board, err := boards.Load(boardName)
	if err != nil {
		return nil, nil, err
	}
	files, err := qemu.Firmware(ctx, board, cache, nil)
	if err != nil {
		return nil, nil, err
	}
	o := qemu.Options{Board: board, Firmware: files}
	if os.Getenv(countVariable) != "" {
		o.Shift = countShift
	}
	p, err := preparedPeer(ctx, o, cache, filepath.Join(dir, "peer"))
	if err != nil {
		return nil, nil, fmt.Errorf("prepare the peer: %w", err)
	}
	first, regular, err := ourImages(ctx, t.TempDir(), o, cache, dir)
	if err != nil {
		return nil, nil, fmt.Errorf("prepare ours: %w", err)
	}
	plain := "console=ttyS0,115200 loglevel=5 panic=10 oops=panic cryptomgr.notests"
	tuned := plain
	for _, word := range board.Kernel.Arguments {
		tuned += " " + word
	}
	all := []machine{
		{regularName, true, regular},
		{peerName, false, p.start(o, plain)},
		{firstName, true, first},
		{tunedName, false, p.start(o, tuned)},
		{debianName, false, p.start(o, plain+" bench_runtime=/usr/sbin/runc bench_config=/etc/containerd/config.toml")},
	}
	only, err := regexp.Compile(os.Getenv(onlyVariable))
	if err != nil {
		return nil, nil, err
	}
	for _, m := range all {
		if only.MatchString(m.name) {
			machines = append(machines, m)
		}
	}
	return machines, p.versions, nil
}

// preparedPeer builds the peer, unless it lies there, and boots it once, in which it imports and unpacks its image.
func preparedPeer(ctx context.Context, o qemu.Options, cache, dir string) (peer, error) {
	key, err := sourceKey()
	if err != nil {
		return peer{}, err
	}
	done := filepath.Join(dir, "prepared.json")
	var kept struct {
		Key, Disk, Kernel, Initramfs string
		Versions                     []string
	}
	text, err := os.ReadFile(done)
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err == nil && kept.Key == key {
		return peer{disk: kept.Disk, kernel: kept.Kernel, initramfs: kept.Initramfs, versions: kept.Versions}, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return peer{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return peer{}, err
	}
	p, err := buildPeer(ctx, o.Board, cache, dir)
	if err != nil {
		return peer{}, err
	}
	once := p.start(qemu.Options{Board: o.Board, Firmware: o.Firmware}, "console=ttyS0,115200 loglevel=5 panic=10")
	once.Disks[0].Snapshot = false
	if err := runOnce(ctx, once, prepared, false); err != nil {
		return peer{}, err
	}
	kept.Key, kept.Disk, kept.Kernel, kept.Initramfs, kept.Versions = key, p.disk, p.kernel, p.initramfs, p.versions
	if text, err = json.MarshalIndent(kept, "", "  "); err != nil {
		return peer{}, err
	}
	return p, os.WriteFile(done, append(text, '\n'), 0o644)
}

// sourceKey changes with the peer's scripts and with the code that puts it together.
func sourceKey() (string, error) {
	sum := sha256.New()
	names, err := fs.Glob(embedded, "testdata/*")
	if err != nil {
		return "", err
	}
	for _, name := range names {
		text, err := embedded.ReadFile(name)
		if err != nil {
			return "", err
		}
		sum.Write(text)
	}
	code, err := os.ReadFile("peer_test.go")
	sum.Write(code)
	return fmt.Sprintf("%x", sum.Sum(nil)), err
}

// ourImages builds a development image with the bench's app, and one over it that has been booted once and powered off.
func ourImages(ctx context.Context, work string, o qemu.Options,
	cache, dir string) (first, regular qemu.Options, err error) {
	image := os.Getenv(imageVariable)
	if image == "" {
		image = filepath.Join(dir, "ours.img")
		app := filepath.Join(work, "bench")
		if err := writeApp(app, filepath.Join(dir, "peer/packages/usr/bin/busybox"), o.Board.Arch); err != nil {
			return first, regular, err
		}
		_, err := build.Build(ctx, build.Options{
			Board: o.Board.Name, Variant: "development", Without: []string{"docker"}, Output: image,
			Binaries: filepath.Join(top, "bin"), Cache: cache, Apps: []string{app},
			Unverified: os.Getenv(verityVariable) == "",
		})
		if err != nil {
			return first, regular, err
		}
	}
	first, regular = o, o
	first.Image = image
	once := qemu.Options{Board: o.Board, Firmware: o.Firmware, Image: image, Overlay: filepath.Join(work,
		"regular.qcow2")}
	if err := runOnce(ctx, once, grown, true); err != nil {
		return first, regular, err
	}
	regular.Image, regular.Format = once.Overlay, "qcow2"
	return first, regular, nil
}

func writeApp(dir, busybox, arch string) error {
	image, err := benchImage(busybox, arch)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "images"), 0o755); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "compose.yaml"), script("x", "compose.yaml").Content, 0o644),
		os.WriteFile(filepath.Join(dir, "images", "bench.tar"), image, 0o644))
}
