package build

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/bsp/apt"
	"resinos/bsp/bootfiles"
	"resinos/bsp/lock"
	"resinos/bsp/slot"
	"resinos/images/assemble"
	"resinos/images/inspect"
	"resinos/images/layout"
	"resinos/images/rootfs"
	"resinos/mounts/disk"
	"resinos/mounts/fingerprint"
	"resinos/mounts/purge"
	"resinos/mounts/testenv"
	"resinos/mounts/verity"
	"resinos/services/config"
	"resinos/services/settings"
)

func needTools(t *testing.T) {
	t.Helper()
	if err := assemble.CheckTools(); err != nil {
		testenv.Lacking(t, "%v", err)
	}
}

// write puts a stand-in file on the host, as old as when says.
func write(t *testing.T, file string, content []byte, when time.Time) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, when, when); err != nil {
		t.Fatal(err)
	}
}

// standIn is a builder of a real board over small stand-ins for packages and binaries, so that a test needs no network.
func standIn(t *testing.T, board, variant string, when time.Time) *builder {
	t.Helper()
	dir := t.TempDir()
	busybox := []byte("busybox\x00")
	table, err := rootfs.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range table.Busybox.Applets {
		busybox = append(append(busybox, a...), 0)
	}
	b, err := prepare(Options{
		Board: board, Variant: variant, Output: filepath.Join(dir, "out.img"), Binaries: filepath.Join(dir, "bin"),
		Cache: filepath.Join(dir, "cache"), Apps: []string{"hello"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"init", "initramfs", "engine", "tools", "containerd-shim-runc-v2", "sshd", "netd",
		"dockerd"} {
		write(t, filepath.Join(b.programs(), p), bytes.Repeat([]byte(p+" "), 10000), when)
	}
	pkg := func(name string) string { return filepath.Join(dir, "pkg", name) }
	write(t, pkg("kernel/boot/vmlinuz-6.12"), bytes.Repeat([]byte("kernel "), 100000), when)
	write(t, pkg("kernel/usr/lib/modules/6.12/modules.builtin"), nil, when)
	write(t, pkg("busybox/usr/bin/busybox"), busybox, when)
	write(t, pkg("certificates/usr/share/ca-certificates/mozilla/A.crt"), []byte("certificate\n"), when)
	write(t, pkg("certificates/usr/share/ca-certificates/mozilla/B.crt"), []byte("certificate\n"), when)
	b.packages = map[string]string{b.lock.Kernel: pkg("kernel"), "busybox-static": pkg("busybox"),
		"ca-certificates": pkg("certificates")}
	for _, p := range table.Packages {
		if b.packages[p.Name] == "" || b.packages[p.Name] == pkg(p.Name) {
			file := strings.NewReplacer("*-linux-", "x-linux-", "*", "1").Replace(p.Source)
			write(t, pkg(filepath.Join(p.Name, file)), []byte(p.Name), when)
			b.packages[p.Name] = pkg(p.Name)
		}
	}
	for _, f := range b.board.Bootloader.Files {
		write(t, pkg(filepath.Join("bootloader", f.Source)), []byte("loader"), when)
		b.packages[b.board.Bootloader.Package] = pkg("bootloader")
	}
	b.modules = moduleTrees{release: "6.12", root: &assemble.Tree{}, early: &assemble.Tree{}}
	return b
}

// digestOf names the bytes of a file; blocks of zeroes count by their place alone, which is much faster on an image.
func digestOf(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	block, zero := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := 0; ; at++ {
		n, err := io.ReadFull(f, block)
		if n > 0 && !bytes.Equal(block[:n], zero[:n]) {
			fmt.Fprintln(sum, at, n)
			sum.Write(block[:n])
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Sprintf("%x in %d", sum.Sum(nil), at)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestTwoBuildsAreIdentical builds each board twice: in other directories, from files of another age, under another
// umask.
func TestTwoBuildsAreIdentical(t *testing.T) {
	needTools(t)
	for board, variant := range map[string]string{"qemu-x86_64": "development", "qemu-arm64": "production"} {
		t.Run(board, func(t *testing.T) {
			var images [2]string
			for i, mask := range []int{0o022, 0o077} {
				old := unix.Umask(mask)
				defer unix.Umask(old)
				b := standIn(t, board, variant, time.Unix(int64(1e9*(i+1)), 0))
				result, err := b.image(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				images[i] = digestOf(t, result.Image)
			}
			if images[0] != images[1] {
				t.Error("two builds of the same inputs differ")
			}
		})
	}
}

// TestConfigJSON: a device for development is called resin, one for production by its uuid; a device takes all that the
// file says.
func TestConfigJSON(t *testing.T) {
	for variant, want := range map[string]string{"development": "resin", "standalone": "resin", "production": ""} {
		d, err := config.Parse(configJSON("some-board", variant))
		s := config.Effective(d, settings.File)
		if err != nil || s.Text(config.Hostname) != want || s.Text(config.DeviceType) != "some-board" ||
			len(s.Faults)+len(s.Unknown) > 0 {
			t.Errorf("%s has %s: %v, %v", variant, d.Bytes(), s, err)
		}
	}
}

// TestInspectReadsWhatWasBuilt closes the circle from the builder to the reader.
func TestInspectReadsWhatWasBuilt(t *testing.T) {
	needTools(t)
	b := standIn(t, "qemu-arm64", "development", time.Now())
	result, err := b.image(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := inspect.Image(t.Context(), result.Image)
	if err != nil {
		t.Fatal(err)
	}
	if r.Board != "qemu-arm64" || r.Slot != "A" || len(r.Partitions) != 5 || len(r.Slots) != 2 {
		t.Fatalf("report = %+v", r)
	}
	if m := r.Slots[0].Manifest; m == nil || m.Kernel != "6.12" || m.Variant != "development" || len(m.Files) != 5 {
		t.Errorf("slot A = %+v", r.Slots[0])
	}
	start := disk.Bytes(r.Partitions[1].Start)
	early, err := assemble.ReadExt4File(t.Context(), result.Image, start, "/"+slot.Initramfs)
	if err != nil {
		t.Fatal(err)
	}
	hash := regexp.MustCompile(`(?s)^070701.{104}root.verity\x00*(sha256 (\w{64}) \d+\n)`).FindSubmatch(early)
	if hash == nil || string(hash[2]) != r.Slots[0].Manifest.Root {
		t.Fatalf("the initramfs begins with %.200q, the manifest has %q", early, r.Slots[0].Manifest.Root)
	}
	root, err := assemble.ReadExt4File(t.Context(), result.Image, start, "/"+slot.Root)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := verity.Parse(string(hash[1])); err != nil || v.Blocks*verity.BlockSize >= int64(len(root)) {
		t.Errorf("root of %d bytes with %v, %v", len(root), v, err)
	} else if again, err := verity.Append(&buffer{root[:v.Blocks*verity.BlockSize]},
		v.Blocks*verity.BlockSize); again != v {
		t.Errorf("the root in the slot has %v, %v, the initramfs %v", again, err, v)
	}
	if !r.Slots[1].Empty {
		t.Errorf("slot B = %+v, want empty", r.Slots[1])
	}
	for i, p := range r.Partitions {
		if want := result.Plan.Partitions[i]; p.GUID != want.GUID || p.Label != want.Label ||
			(p.FileSystem != "") != (want.FileSystem != "") {
			t.Errorf("partition = %+v, want %+v", p, want)
		}
		if p.FileSystem != "" && (!p.Clean || p.Used+p.Free > p.Size || p.Used <= 0) {
			t.Errorf("usage of %s: %+v", p.Label, p)
		}
	}
}

// buffer is a file in memory.
type buffer struct{ content []byte }

func (b *buffer) ReadAt(p []byte, at int64) (int, error) {
	return bytes.NewReader(b.content).ReadAt(p, at)
}

func (b *buffer) WriteAt(p []byte, at int64) (int, error) {
	b.content = append(b.content[:at], p...)
	return len(p), nil
}

// TestBootFilesAreInTheRoot: what an update brings to the boot partition, and nothing of the owner's.
func TestBootFilesAreInTheRoot(t *testing.T) {
	needTools(t)
	for board, want := range map[string]string{"qemu-arm64": "boot.scr", "qemu-x86_64": "EFI/BOOT/BOOTX64.EFI"} {
		b, tree := standIn(t, board, "production", time.Now()), &assemble.Tree{}
		if err := b.addBootFiles(t.Context(), tree); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{want, "image-version-info", "device-type.json", fingerprint.Name} {
			if _, found := tree.Lookup(filepath.Join(bootfiles.Source[1:], name)); !found {
				t.Errorf("%s: the root lacks %s", board, name)
			}
		}
		for _, e := range tree.Entries() {
			if name := filepath.Base(e.Path); name == "config.json" || name == "grubenv" || name == "resinos.env" ||
				name == "resin-sample" {
				t.Errorf("%s: the root has %s", board, e.Path)
			}
		}
	}
}

// TestUnverified: an image without a hash tree has no trace of one.
func TestUnverified(t *testing.T) {
	needTools(t)
	b := standIn(t, "qemu-x86_64", "production", time.Now())
	b.Unverified = true
	result, err := b.image(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	start, _ := result.Plan.Partition(layout.RootA)
	early, err := assemble.ReadExt4File(t.Context(), result.Image, start.Start, "/"+slot.Initramfs)
	if err != nil || bytes.Contains(early[:512], []byte(slot.RootHash)) || result.Manifest.Root != "" {
		t.Errorf("the initramfs begins with %.200q, the manifest has %q; %v", early, result.Manifest.Root, err)
	}
	if slices.Contains(b.earlyModules(), verity.Module) {
		t.Errorf("it has the module %s", verity.Module)
	}
}

// TestSecondBuildTakesEverythingFromCache wants no stage to run again, and only its own stages after a change.
func TestSecondBuildTakesEverythingFromCache(t *testing.T) {
	needTools(t)
	b := standIn(t, "qemu-x86_64", "production", time.Now())
	p := &recorder{}
	b.Progress = p
	build := func() []string {
		t.Helper()
		p.ran = nil
		if _, err := b.image(t.Context()); err != nil {
			t.Fatal(err)
		}
		slices.Sort(p.ran)
		return p.ran
	}
	build()
	if ran := build(); !slices.Equal(ran, []string{"write out.img"}) {
		t.Errorf("second build ran %v", ran)
	}
	write(t, filepath.Join(b.programs(), "engine"), []byte("another engine"), time.Now())
	if ran := build(); !slices.Equal(ran, []string{"initramfs", "resin-rootA", "rootfs", "write out.img"}) {
		t.Errorf("after a change of engine it ran %v", ran)
	}
	b.Apps = nil
	if ran := build(); !slices.Equal(ran, []string{"resin-data", "write out.img"}) {
		t.Errorf("without apps it ran %v", ran)
	}
}

// recorder is a Progress that remembers the stages that were not in the cache.
type recorder struct {
	Silent
	ran []string
}

func (r *recorder) Begin(stage string) func(bool) {
	return func(cached bool) {
		if !cached {
			r.ran = append(r.ran, stage)
		}
	}
}

func TestFaults(t *testing.T) {
	needTools(t)
	for name, c := range map[string]struct {
		change func(t *testing.T, b *builder)
		want   []string
	}{
		"partition too small": {func(_ *testing.T, b *builder) {
			b.board.Disk.Partitions = slices.Clone(b.board.Disk.Partitions)
			b.board.Disk.Partitions[1].Size, b.board.Disk.Partitions[2].Size = 4*disk.MiB, 4*disk.MiB
			big := filepath.Join(b.packages[b.lock.Kernel], "boot/vmlinuz-6.12")
			noise := make([]byte, 6<<20)
			_, _ = rand.Read(noise) // never fails
			if err := os.WriteFile(big, noise, 0o644); err != nil {
				panic(err)
			}
		}, []string{"bsp/boards/qemu-x86_64.toml", "resin-rootA", "vmlinuz", "enlarge it"}},
		"slot too full": {func(_ *testing.T, b *builder) {
			b.board.Disk.Partitions = slices.Clone(b.board.Disk.Partitions)
			b.board.Disk.Partitions[1].Size, b.board.Disk.Partitions[2].Size = 4*disk.MiB, 4*disk.MiB
			big := filepath.Join(b.packages[b.lock.Kernel], "boot/vmlinuz-6.12")
			if err := os.WriteFile(big, make([]byte, 2<<20), 0o644); err != nil {
				panic(err)
			}
		}, []string{"% full", "later update"}},
		"no kernel": {func(_ *testing.T, b *builder) { b.board.Kernel.Image = "boot/none-*" },
			[]string{"find boot/none-*", "0 files match"}},
		"no binary": {func(_ *testing.T, b *builder) { b.Binaries = "/nowhere" }, []string{"find program engine",
			"make build"}},
		"no app": {func(t *testing.T, b *builder) { b.Apps = []string{t.TempDir()} },
			[]string{"preload app", "compose.yaml"}},
		"no device tree": {func(_ *testing.T, b *builder) { b.board.Kernel.DeviceTrees = []string{"x.dtb"} },
			[]string{"find device tree x.dtb"}},
		"unknown loader": {func(_ *testing.T, b *builder) { b.board.Bootloader.Kind = "lilo" }, []string{"lilo"}},
		"root too large": {func(t *testing.T, b *builder) {
			noise := make([]byte, rootLimit+1)
			_, _ = rand.Read(noise) // never fails
			write(t, filepath.Join(b.programs(), "engine"), noise, time.Now())
		}, []string{"at most 45.0 MB", "usr/bin/engine (45.0 MB)"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := standIn(t, "qemu-x86_64", "production", time.Now())
			c.change(t, b)
			_, err := b.image(t.Context())
			for _, w := range c.want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("error = %v, want %q in it", err, w)
				}
			}
			if _, err := os.Stat(b.Output); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a failed build left %s behind: %v", b.Output, err)
			}
		})
	}
}

func TestOptionFaults(t *testing.T) {
	needTools(t)
	good := Options{Board: "qemu-x86_64", Variant: "production", Output: filepath.Join(t.TempDir(), "x.img"),
		Cache: t.TempDir()}
	for name, c := range map[string]struct {
		change func(*Options)
		epoch  string
		want   string
	}{
		"board":        {func(o *Options) { o.Board = "toaster" }, "", "qemu-arm64"},
		"variant":      {func(o *Options) { o.Variant = "debug" }, "", "production, development, standalone"},
		"part":         {func(o *Options) { o.Without = []string{"cellar"} }, "", "there are the parts docker"},
		"no directory": {func(o *Options) { o.Output = "/no/such/directory/x.img" }, "", "directory does not exist"},
		"epoch":        {func(*Options) {}, "soon", "SOURCE_DATE_EPOCH"},
		"epoch 1970":   {func(*Options) {}, "1", "1980"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			c.change(&o)
			if c.epoch != "" {
				t.Setenv("SOURCE_DATE_EPOCH", c.epoch)
			}
			if _, err := Build(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Build() = %v, want %q", err, c.want)
			}
		})
	}
}

func TestAppDirectoryIsPreloaded(t *testing.T) {
	needTools(t)
	b := standIn(t, "qemu-x86_64", "production", time.Now())
	app := filepath.Join(t.TempDir(), "Sensor")
	write(t, filepath.Join(app, "compose.yaml"), []byte("services: {a: {image: x}}\n"), time.Now())
	write(t, filepath.Join(app, "images", "one.tar"), []byte("tar"), time.Now())
	write(t, filepath.Join(app, "README"), []byte("stays here"), time.Now())
	b.Apps = []string{app}
	tree, err := b.dataTree(t.Context(), slot.Manifest{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range tree.Entries() {
		names = append(names, e.Path)
	}
	want := []string{purge.Armed, "apps", "apps/sensor", "apps/sensor/compose.yaml", "apps/sensor/images",
		"apps/sensor/images/one.tar", purge.Flag}
	if !slices.Equal(names, want) {
		t.Errorf("data = %v, want %v", names, want)
	}
}

func TestStoreKeepsNothingHalf(t *testing.T) {
	s, err := openStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if _, _, err := s.do(t.Context(), "stage", "k", func(_ context.Context, dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o644), broken)
	}); !errors.Is(err, broken) {
		t.Errorf("do() = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, _, err := s.do(ctx, "stage", "k", func(context.Context, string) error { cancel(); return nil }); !errors.Is(
		err, context.Canceled) {
		t.Errorf("do() when cancelled = %v", err)
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// A build that was killed leaves its temporary directory; the next one must not take it for a result.
	if err := os.Mkdir(filepath.Join(s.dir, "part-stage-123"), 0o755); err != nil {
		t.Fatal(err)
	}
	dir, cached, err := s.do(t.Context(), "stage", "k", func(context.Context, string) error { return nil })
	if err != nil || cached {
		t.Errorf("do() = %s, %v, %v", dir, cached, err)
	}
	if again, cached, err := s.do(t.Context(), "stage", "k",
		func(context.Context, string) error { return broken }); err != nil || !cached || again != dir {
		t.Errorf("second do() = %s, %v, %v", again, cached, err)
	}
}

func TestStorePrunes(t *testing.T) {
	s, err := openStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-48 * time.Hour)
	for i := range keptPerStage + 3 {
		dir, _, err := s.do(t.Context(), "resin-rootA", string(rune('a'+i)),
			func(context.Context, string) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		when := old.Add(time.Duration(i) * time.Minute)
		if err := os.Chtimes(dir, when, when); err != nil {
			t.Fatal(err)
		}
	}
	stale := filepath.Join(s.dir, "part-x-1")
	if err := errors.Join(os.Mkdir(stale, 0o755), os.Chtimes(stale, old, old)); err != nil {
		t.Fatal(err)
	}
	s.prune()
	if left, err := os.ReadDir(s.dir); err != nil || len(left) != keptPerStage {
		t.Errorf("%d results left, want %d; %v", len(left), keptPerStage, err)
	}
}

// TestRealImagesAreIdentical builds a whole image twice with separate caches, if packages and binaries lie ready.
func TestRealImagesAreIdentical(t *testing.T) {
	needTools(t)
	if testing.Short() {
		t.Skip("-short: builds two images")
	}
	const top = "../.."
	pins, err := lock.Load("qemu-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pins.Packages {
		if _, err := os.Stat(apt.CachePath(filepath.Join(top, ".cache"), p)); err != nil && p.Name != "ovmf" {
			testenv.Lacking(t, "a built image: make image: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(top, "bin/amd64/init")); err != nil {
		testenv.Lacking(t, "the device binaries: make build: %v", err)
	}
	var images [2]string
	for i := range images {
		cache := t.TempDir()
		if err := os.Symlink(filepath.Join(abs(t, top), ".cache/debs"), filepath.Join(cache, "debs")); err != nil {
			t.Fatal(err)
		}
		o := Options{Board: "qemu-x86_64", Variant: "development", Without: []string{"docker"}, Cache: cache,
			Binaries: filepath.Join(top, "bin"), Output: filepath.Join(t.TempDir(), "x.img"), Apps: []string{"hello"}}
		if _, err := Build(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		images[i] = digestOf(t, o.Output)
	}
	if images[0] != images[1] {
		t.Error("two builds of the real image differ")
	}
}

func abs(t *testing.T, name string) string {
	t.Helper()
	full, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return full
}

// The clocks of devices start from the last change of the source, or from what the builder was told.
func TestBuilt(t *testing.T) {
	defer func(before string) { sourceTime = before }(sourceTime)
	for _, tt := range []struct {
		source string
		epoch  int64
		told   string
		want   int64
	}{
		{"", defaultEpoch, "", defaultEpoch},
		{"1795600800", defaultEpoch, "", 1795600800},
		{"7", defaultEpoch, "", defaultEpoch}, // somebody's git lies
		{"soon", defaultEpoch, "", defaultEpoch},
		{"1795600800", 1780000000, "1780000000", 1780000000},
	} {
		t.Setenv("SOURCE_DATE_EPOCH", tt.told)
		sourceTime = tt.source
		if got := (&builder{epoch: tt.epoch}).built().Unix(); got != tt.want {
			t.Errorf("built from source %q, told %q = %d, want %d", tt.source, tt.told, got, tt.want)
		}
	}
}
