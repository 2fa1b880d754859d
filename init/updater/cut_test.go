package updater

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/bsp/bootvars"
	"resinos/bsp/bundle"
	"resinos/bsp/bundle/pack"
	"resinos/bsp/slot"
	"resinos/bsp/update"
	"resinos/images/assemble"
	"resinos/images/layout"
	"resinos/images/powercut"
	"resinos/images/powercut/judge"
	"resinos/images/powercut/recorder"
	"resinos/images/powercut/recording"
	"resinos/init/updatecontrol"
	"resinos/mounts/disk"
	"resinos/mounts/testenv"
)

// proveEnv names a directory with images BOARD-development.img of the first version and BOARD-next.img of the second:
// then their slots are used instead of small ones, and more states are tried (make prove-update).
const proveEnv = "RESINOS_PROVE_UPDATE"

// boardOf are the boards whose images have each bootloader.
var boardOf = map[bootvars.Bootloader]string{bootvars.Grub: "qemu-x86_64", bootvars.UBoot: "qemu-arm64"}

// The versions of a proof.
const older, newer = "1.0.0", "1.1.0"

// TestCutsOfAnUpdate records what the updater writes to a disk with the partitions of a device, in updates forth and
// back, with the boot script's part between, and judges each disk that a power cut could have left. The careless part
// switches before the slot is written: there the judge must find bad states.
func TestCutsOfAnUpdate(t *testing.T) {
	for _, loader := range bootvars.Bootloaders() {
		t.Run(string(loader), func(t *testing.T) { cutsOfAnUpdate(t, loader) })
	}
}

func cutsOfAnUpdate(t *testing.T, loader bootvars.Bootloader) {
	if !testenv.InNamespace(t) {
		return
	}
	testenv.NeedPrograms(t, "mke2fs", "e2fsck", "debugfs", "mkfs.vfat", "fsck.vfat", "mcopy")
	if _, err := os.Stat("/dev/fuse"); err != nil {
		testenv.Lacking(t, "FUSE in the kernel: %v", err)
	}
	effort, least := powercut.Quick(1), 500
	image, next := smallImages(t, loader)
	if dir := os.Getenv(proveEnv); dir != "" {
		image = filepath.Join(dir, boardOf[loader]+"-development.img")
		next = filepath.Join(dir, boardOf[loader]+"-next.img")
		effort, least = powercut.Effort{Seed: 1, Subsets: 7, Throws: 60, MostTorn: 7, MostDrops: 64}, 10000
	}
	c := newCutDevice(t, loader, image, next)
	c.updates()
	testenv.WaitFor(t, "the release of the parts", c.recorder.Released)
	rec, err := c.recorder.Stop()
	if err != nil {
		t.Fatal(err)
	}
	rec.Board = string(loader)
	good := c.check(rec, effort, rec.Good())
	if good.BadCount > 0 {
		t.Errorf("%d of %d states are bad", good.BadCount, good.States)
	}
	if good.Distinct < least {
		t.Errorf("%d distinct disks, at least %d are expected: that is no update", good.Distinct, least)
	}
	if os.Getenv(proveEnv) != "" {
		c.bootEach(rec, effort, good)
	}
	if bad := c.check(rec, effort, []string{"careless"}); bad.BadCount == 0 {
		t.Errorf("none of %d states is bad, though the switch came before the slot: the judge sees nothing", bad.States)
	}
}

// cutDevice is a device whose disk is recorded.
type cutDevice struct {
	*bench
	recorder *recorder.Recorder
	loader   bootvars.Bootloader
	versions []judge.Version
	bundles  map[string]string // by version
	state    string            // where the state partition is attached
	image    string
	boots    int
}

func newCutDevice(t *testing.T, loader bootvars.Bootloader, image, next string) *cutDevice {
	c := &cutDevice{bench: newBench(t), loader: loader, image: image, bundles: map[string]string{}}
	c.version(older, image)
	c.version(newer, next)
	size := c.versions[0].Size
	c.versions = append(c.versions, judge.Version{File: testenv.Disk(t, size>>20), Size: size})
	r, err := recorder.Start(image, t.TempDir(), c.parts())
	if err != nil {
		t.Fatal(err)
	}
	c.recorder = r
	r.Section(recording.Section{Name: "start"})
	r.Promise(judge.FactSlotA, older)
	c.state = filepath.Join(c.dir, "state")
	if err := os.Mkdir(c.state, 0o755); err != nil {
		t.Fatal(err)
	}
	c.attachState()
	d := c.device
	d.record, d.boot, d.running = filepath.Join(c.state, "update.json"), r.Dir, older
	d.slots = func() (idle, running slotFile, err error) {
		file := func(name slot.Name) slotFile {
			return slotFile{path: filepath.Join(r.Dir, "slot"+string(name)), size: size}
		}
		return file(d.booted.Other()), file(d.booted), nil
	}
	return c
}

// parts are the partitions that an update writes to, and the file of the boot variables.
func (c *cutDevice) parts() []recorder.Part {
	plan, err := assemble.ReadTable(c.image)
	if err != nil {
		c.t.Fatal(err)
	}
	f, err := os.Open(c.image)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	var parts []recorder.Part
	for _, p := range plan.Partitions {
		part := recorder.Part{Start: int64(p.Start), Size: int64(p.Size)}
		switch p.Label {
		case layout.RootA:
			part.Name = "slotA"
		case layout.RootB:
			part.Name = "slotB"
		case layout.State:
			part.Name = "state"
		case layout.Boot:
			if part, err = recorder.FATFile(f, int64(p.Start), c.loader.File()); err != nil {
				c.t.Fatal(err)
			}
		default:
			continue
		}
		parts = append(parts, part)
	}
	return parts
}

// version makes the bundle of slot A of an image, which must be whole.
func (c *cutDevice) version(name, image string) {
	plan, err := assemble.ReadTable(image)
	if err != nil {
		c.t.Fatal(err)
	}
	part := plan.Partitions[1]
	file := filepath.Join(c.dir, name+".slot")
	if err := assemble.ExtractPartition(c.t.Context(), image, part, file); err != nil {
		c.t.Fatal(err)
	}
	if err := judge.CheckSlot(c.t.Context(), file); err != nil {
		c.t.Fatalf("slot of version %s: %v", name, err)
	}
	f, err := os.Open(file)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	m := bundle.Manifest{Format: bundle.Format, Board: "b", Variant: "development", Version: name}
	m.Slot.Size = int64(part.Size)
	spool, err := os.CreateTemp(c.dir, "spool")
	if err != nil {
		c.t.Fatal(err)
	}
	defer spool.Close()
	out, err := os.Create(filepath.Join(c.dir, name+".bundle"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer out.Close()
	if m, err = pack.Write(out, m, f, spool, []string{c.private}); err != nil {
		c.t.Fatal(err)
	}
	c.bundles[name] = out.Name()
	c.versions = append(c.versions, judge.Version{Name: name, Digest: m.Slot.SHA256, File: file, Size: m.Slot.Size})
}

// attachState mounts the state partition. Its loop device goes when it is unmounted.
func (c *cutDevice) attachState() {
	loop, err := c.recorder.Loop("state")
	c.must(err)
	defer loop.Close()
	c.must(unix.Mount(loop.Name(), c.state, "ext4", unix.MS_NOATIME, ""))
}

// updates is what is recorded.
func (c *cutDevice) updates() {
	c.section("install")
	c.installs(updatecontrol.Install{Source: c.bundles[newer], NoReboot: true}, updatecontrol.Done)
	c.section("confirm")
	c.boot(slot.B, newer)
	c.reach()
	c.must(c.device.Confirm(c.t.Context(), ""))
	c.recorder.Promise(judge.FactSlotB, newer)
	c.recorder.Promise(judge.FactSlotA)

	c.section("install into A")
	c.installs(updatecontrol.Install{Source: c.bundles[newer], Again: true, NoReboot: true}, updatecontrol.Done)
	c.section("leave")
	c.boot(slot.A, newer)
	c.reach()
	c.must(c.device.GiveUp(c.t.Context(), update.Unhealthy, "the engine is down"))
	c.boot(slot.B, newer)

	c.section("roll back")
	c.rollBack()
	c.boot(slot.A, newer)
	c.must(c.device.Confirm(c.t.Context(), "by hand"))

	c.recorder.Promise(judge.FactSlotA, newer)
	c.recorder.Promise(judge.FactSlotB)
	c.section("interrupted")
	c.installs(updatecontrol.Install{Source: c.damagedSource(older), Older: true, NoReboot: true}, updatecontrol.Failed)
	c.section("resumed")
	c.installs(updatecontrol.Install{Source: c.bundles[older], Older: true, NoReboot: true}, updatecontrol.Done)
	c.section("taken back")
	c.rollBack()
	c.must(unix.Unmount(c.state, 0))
	c.recorder.Section(recording.Section{Name: "careless", Careless: true})
	c.careless()
}

func (c *cutDevice) section(name string) { c.recorder.Section(recording.Section{Name: name}) }

func (c *cutDevice) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cutDevice) installs(a updatecontrol.Install, want updatecontrol.Phase) {
	c.t.Helper()
	_, err := c.client.Install(c.t.Context(), a)
	c.must(err)
	if p := c.ends(); p.Phase != want {
		c.t.Fatalf("it ended with %+v, want %s", p, want)
	}
}

func (c *cutDevice) rollBack() {
	c.t.Helper()
	_, err := c.client.RollBack(c.t.Context(), updatecontrol.RollBack{NoReboot: true})
	c.must(err)
}

func (c *cutDevice) reach() {
	c.t.Helper()
	s, err := c.device.Settle(c.t.Context())
	if err != nil || !s.OnTrial {
		c.t.Fatalf("settled: %+v, %v", s, err)
	}
	c.must(c.device.Reached())
}

// boot unmounts and lets the boot script choose. It writes the variables as the device does: what it changes lies in
// the same sector, and U-Boot writes the directory entry too.
func (c *cutDevice) boot(want slot.Name, version string) {
	c.t.Helper()
	c.must(unix.Unmount(c.state, 0))
	_, v, err := update.ReadVariables(c.device.boot)
	c.must(err)
	b := v.Boot(bootvars.Firmware{Writes: true, Loads: map[slot.Name]bool{slot.A: true, slot.B: true}})
	if b.Slot != want {
		c.t.Fatalf("slot %s is booted, want %s: %+v", b.Slot, want, v)
	}
	if b.Trial {
		c.must(update.WriteVariables(c.device.boot, c.loader, b.After))
	}
	c.boots++
	c.device.booted, c.device.bootID, c.device.running = b.Slot, fmt.Sprint("boot ", c.boots), version
	c.attachState()
}

// damagedSource serves a bundle whose chunks are damaged from the first third on: an installation ends there.
func (c *cutDevice) damagedSource(version string) string {
	text, err := os.ReadFile(c.bundles[version])
	c.must(err)
	chunks := len(text) - int(c.manifest(c.bundles[version]).Data)
	for at := chunks + (len(text)-chunks)/3; at < len(text); at += 1000 {
		text[at] ^= 1
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(text))
	}))
	c.t.Cleanup(server.Close)
	return server.URL
}

// careless switches first and writes then.
func (c *cutDevice) careless() {
	_, v, err := update.ReadVariables(c.device.boot)
	c.must(err)
	idle := c.device.booted.Other()
	c.must(update.WriteVariables(c.device.boot, c.loader, update.Arm(v, update.Attempt{Slot: idle})))
	f, err := os.OpenFile(filepath.Join(c.recorder.Dir, "slot"+string(idle)), os.O_RDWR, 0)
	c.must(err)
	_, err = f.WriteAt(make([]byte, 64<<10), 1<<20)
	c.must(errors.Join(err, f.Sync(), f.Close()))
}

func (c *cutDevice) check(rec *recording.Recording, effort powercut.Effort, sections []string) *powercut.Report {
	c.t.Helper()
	suite, err := judge.UpdateSuite(c.image, true, c.loader, c.versions)
	c.must(err)
	scratch := c.t.TempDir()
	if stat, err := os.Stat("/dev/shm"); err == nil && stat.IsDir() {
		scratch = "/dev/shm"
	}
	report, err := powercut.Check(c.t.Context(), rec,
		powercut.Options{Suite: suite, Effort: effort, Sections: sections, Scratch: scratch})
	c.must(err)
	c.t.Logf("\n%s", report)
	return report
}

// smallImages makes two images of a small device. Their slots have files of some hundred kilobytes.
func smallImages(t *testing.T, loader bootvars.Bootloader) (image, next string) {
	variables, err := loader.Encode(bootvars.New())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	ctx := t.Context()
	var boot, none assemble.Tree
	err = boot.Add(assemble.Entry{Path: loader.File(), Mode: 0o644, Content: variables})
	err = errors.Join(err,
		assemble.FAT{Label: layout.Boot, Volume: 1, Size: 40 * disk.MiB, Epoch: 1e9}.Write(ctx, path("boot"), &boot),
		assemble.Ext4{Label: layout.State, UUID: layout.GUID("state"), Size: 16 * disk.MiB, Epoch: 1e9, Writable: true,
			Journal: 4 * disk.MiB}.Write(ctx, path("state"), &none),
		assemble.Ext4{Label: layout.Data, UUID: layout.GUID("data"), Size: 16 * disk.MiB, Epoch: 1e9, Writable: true,
			Journal: 4 * disk.MiB}.Write(ctx, path("data"), &none))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := layout.New(layout.Request{File: "test", Partitions: []layout.Wanted{{Label: layout.Boot,
		Size: 40 * disk.MiB}, {Label: layout.RootA, Size: 4 * disk.MiB}, {Label: layout.RootB, Size: 4 * disk.MiB},
		{Label: layout.State, Size: 16 * disk.MiB}, {Label: layout.Data, Size: 16 * disk.MiB}}})
	if err != nil {
		t.Fatal(err)
	}
	image, next = path("image"), path("next")
	for i, name := range []string{image, next} {
		err := smallSlot(ctx, name+".slot", uint64(i))
		files := map[string]string{layout.Boot: path("boot"), layout.RootA: name + ".slot",
			layout.State: path("state"), layout.Data: path("data")}
		if err := errors.Join(err, assemble.WriteImage(ctx, name, plan, files)); err != nil {
			t.Fatal(err)
		}
	}
	return image, next
}

// smallSlot writes a slot: one file is the same in all, the others depend on the seed.
func smallSlot(ctx context.Context, name string, seed uint64) error {
	var tree assemble.Tree
	m := slot.Manifest{Format: slot.ManifestFormat, Version: fmt.Sprint(seed)}
	for i, file := range []string{slot.Kernel, slot.Initramfs, slot.Root} {
		content := make([]byte, 700<<10)
		dice := [32]byte{byte(i), byte(seed * uint64(i))}
		if _, err := io.ReadFull(rand.NewChaCha8(dice), content); err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		m.Files = append(m.Files, slot.File{Name: file, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])})
		if err := tree.Add(assemble.Entry{Path: file, Mode: 0o644, Content: content}); err != nil {
			return err
		}
	}
	text, err := m.Encode()
	err = errors.Join(err, tree.Add(assemble.Entry{Path: slot.ManifestFile, Mode: 0o644, Content: text}))
	if err != nil {
		return err
	}
	x := assemble.Ext4{Label: layout.RootA, UUID: layout.GUID("slot"), Size: 4 * disk.MiB, Epoch: 1e9}
	return x.Write(ctx, name, &tree)
}
