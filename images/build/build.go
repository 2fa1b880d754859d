// Package build builds a disk image from a board's packages, the device's binaries and the apps to preload.
//
// It owns the order of the stages, their dependencies, their cache, and the limits on sizes. It never needs root, never
// mounts and never reads the clock; the same inputs give the same bytes. Read first: Options, then Build.
package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"resinos/bsp/boards"
	"resinos/bsp/bundle"
	"resinos/bsp/bundle/trust"
	"resinos/bsp/lock"
	"resinos/bsp/slot"
	"resinos/images/assemble"
	"resinos/images/layout"
	"resinos/images/rootfs"
	"resinos/mounts/disk"
)

// Version is the version of resinOS that this tree builds.
const Version = "0.1.0"

// defaultEpoch is the time stamp of every file in an image: the first second of 2026.
const defaultEpoch = 1767225600

// sourceTime is the time of the last change of this program's source, in seconds since 1970; the Makefile lets the
// linker set it from the last commit. Unlike the epoch, it is not the time stamp of every file, so a new commit does
// not change every file of an update.
var sourceTime string

// built returns the build time, at which the clocks of devices start: no device runs an image before it was built.
func (b *builder) built() time.Time {
	at := b.epoch
	if n, err := strconv.ParseInt(sourceTime, 10, 64); err == nil && os.Getenv("SOURCE_DATE_EPOCH") == "" {
		at = max(at, n)
	}
	return time.Unix(at, 0).UTC()
}

// cacheRoom is the space that one board's unpacked packages and its stages need in an empty cache, with a reserve.
const cacheRoom = 768 * disk.MiB

// Options are the inputs and the output of a build.
type Options struct {
	Board      string
	Variant    string
	Output     string     // the image file
	Binaries   string     // directory with a directory of device binaries for each architecture
	Cache      string     // directory for packages and results of stages
	Apps       []string   // directories with a compose.yaml, or the names of apps that come with the builder
	Mirrors    []string   // Debian mirrors; the host's own if empty
	Version    string     // of resinOS; Version if empty
	Trust      trust.Keys // the keys that updates have to be signed with; the zero value refuses every update
	Without    []string   // parts that are left out
	Unverified bool       // the root has no hash tree
	Progress   Progress   // nil: no progress is shown
}

// Result describes what was built.
type Result struct {
	Image    string
	Plan     layout.Plan
	Manifest slot.Manifest
}

// builder is one run of Build.
type builder struct {
	Options
	board    boards.Board
	lock     lock.Lock
	table    rootfs.Table
	store    store
	epoch    int64
	packages map[string]string // name -> directory it is unpacked in
	modules  moduleTrees
	loader   string // version of the program that loads apps, in the root
}

// Build builds the image. Output is the old image, or missing, until the new one is complete. Errors name the file or
// board at fault and the remedy.
func Build(ctx context.Context, o Options) (Result, error) {
	b, err := prepare(o)
	if err != nil {
		return Result{}, err
	}
	if err := b.fetch(ctx, b.imagePackages()); err != nil {
		return Result{}, err
	}
	if err := b.selectModules(ctx); err != nil {
		return Result{}, err
	}
	return b.image(ctx)
}

// image builds the image from packages and modules that are ready.
func (b *builder) image(ctx context.Context) (Result, error) {
	slot, m, err := b.slotTree(ctx)
	if err != nil {
		return Result{}, err
	}
	trees := map[string]*assemble.Tree{layout.RootA: slot}
	plan, err := b.plan(ctx, trees, m)
	if err != nil {
		return Result{}, err
	}
	files, err := b.fileSystems(ctx, plan, trees)
	if err != nil {
		return Result{}, err
	}
	done := b.Progress.Begin("write " + filepath.Base(b.Output))
	err = assemble.WriteImage(ctx, b.Output, plan, files)
	done(false)
	b.store.prune()
	return Result{Image: b.Output, Plan: plan, Manifest: m}, err
}

// open loads the board and opens the cache.
func open(o Options) (*builder, error) {
	if o.Progress == nil {
		o.Progress = Silent{}
	}
	b := &builder{Options: o, epoch: defaultEpoch}
	var err error
	if b.board, err = boards.Load(o.Board); err != nil {
		return nil, err
	}
	if b.lock, err = lock.Load(o.Board); err != nil {
		return nil, err
	}
	b.store, err = openStore(o.Cache)
	return b, err
}

// prepare checks everything that can be checked before any work.
func prepare(o Options) (*builder, error) {
	b, err := open(o)
	if err != nil {
		return nil, err
	}
	if b.table, err = rootfs.Load(); err != nil {
		return nil, err
	}
	if b.Version == "" {
		b.Version = Version
	}
	if !bundle.ValidVersion(b.Version) {
		return nil, fmt.Errorf("build version %q: want three numbers such as 1.2.3", b.Version)
	}
	if !slices.Contains(rootfs.Variants(), o.Variant) {
		return nil, fmt.Errorf("find variant %q: there are %s", o.Variant, strings.Join(rootfs.Variants(), ", "))
	}
	for _, part := range o.Without {
		if !slices.Contains(b.table.Parts(), part) {
			return nil, fmt.Errorf("build without %q: there are the parts %s", part, strings.Join(b.table.Parts(),
				", "))
		}
	}
	if b.board.Disk.Table != "gpt" {
		return nil, fmt.Errorf("%s/%s.toml: disk table %q is not built yet, only gpt", boards.Directory, o.Board,
			b.board.Disk.Table)
	}
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		if b.epoch, err = strconv.ParseInt(text, 10, 32); err != nil || b.epoch < 315532800 { // FAT begins in 1980
			return nil, fmt.Errorf("read SOURCE_DATE_EPOCH %q: want seconds since 1970, of 1980 or later", text)
		}
	}
	if st, err := os.Stat(filepath.Dir(o.Output)); err != nil || !st.IsDir() {
		return nil, errors.Join(fmt.Errorf("write %s: its directory does not exist; create it, or choose another "+
			"one with -o", o.Output), err)
	}
	if err := assemble.CheckTools(); err != nil {
		return nil, err
	}
	return b, assemble.CheckRoom(b.store.dir, cacheRoom)
}

// programs returns the directory of the device's binaries for the board.
func (b *builder) programs() string { return filepath.Join(b.Binaries, b.board.Arch) }

// plan adds the trees of the other partitions and plans the disk.
func (b *builder) plan(ctx context.Context, trees map[string]*assemble.Tree, m slot.Manifest) (layout.Plan, error) {
	for label, lay := range map[string]func(context.Context, slot.Manifest) (*assemble.Tree, error){
		layout.Boot: b.bootTree, layout.State: b.stateTree, layout.Data: b.dataTree,
	} {
		tree, err := lay(ctx, m)
		if err != nil {
			return layout.Plan{}, err
		}
		trees[label] = tree
	}
	r := layout.Request{File: boards.Directory + "/" + b.Board + ".toml", Contents: map[string]layout.Content{}}
	for _, p := range b.board.Disk.Partitions {
		r.Partitions = append(r.Partitions, layout.Wanted{Label: p.Label, Size: p.Size})
		if tree := trees[p.Label]; tree != nil {
			c, err := b.content(p.Label, p.Size, tree)
			if err != nil {
				return layout.Plan{}, err
			}
			r.Contents[p.Label] = c
		}
	}
	plan, err := layout.New(r)
	if err != nil {
		return layout.Plan{}, err
	}
	return plan, b.checkHeadroom(plan, r.Contents)
}

func (b *builder) content(label string, size disk.Bytes, tree *assemble.Tree) (layout.Content, error) {
	digest, err := tree.Digest()
	if err != nil {
		return layout.Content{}, err
	}
	c := layout.Content{Digest: digest}
	used, largest, err := assemble.Usage(tree)
	if err != nil {
		return layout.Content{}, err
	}
	c.Need, c.Largest = used, largest
	if label == layout.Boot {
		c.Need += assemble.FAT{Size: size}.Overhead()
	} else {
		c.Need += b.ext4(label, size).Overhead()
	}
	return c, nil
}

// ext4 returns the file system of a partition, without the parameters that depend on its content.
func (b *builder) ext4(label string, size disk.Bytes) assemble.Ext4 {
	x := assemble.Ext4{Label: label, Size: size, Epoch: b.epoch}
	switch label {
	case layout.State:
		x.Writable, x.Journal, x.ReservedPercent = true, 4*disk.MiB, 1
	case layout.Data:
		// It grows in the first boot, to a disk of any usual size; the journal keeps its size. When the file system
		// grows, the kernel keeps the reserve in whole percents, and mke2fs rounds down: 2 become 1.
		x.Writable, x.Journal, x.ReservedPercent, x.GrowsTo, x.Quota = true, 16*disk.MiB, 2, disk.TiB, true
	}
	return x
}

// DataFileSystem is that of resin-data, without the parameters that depend on its content.
func DataFileSystem(size disk.Bytes, epoch int64) assemble.Ext4 {
	return (&builder{epoch: epoch}).ext4(layout.Data, size)
}

// fileSystems writes a file for each partition that has content.
func (b *builder) fileSystems(ctx context.Context, plan layout.Plan,
	trees map[string]*assemble.Tree) (map[string]string, error) {
	files := make(map[string]string)
	for _, part := range plan.Partitions {
		if trees[part.Label] != nil {
			files[part.Label] = ""
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	out := make([]string, len(plan.Partitions))
	for i, part := range plan.Partitions {
		if _, ok := files[part.Label]; !ok {
			continue
		}
		g.Go(func() (err error) {
			out[i], err = b.fileSystem(ctx, part, trees[part.Label])
			return err
		})
	}
	err := g.Wait()
	for i, part := range plan.Partitions {
		if out[i] != "" {
			files[part.Label] = out[i]
		}
	}
	return files, err
}

func (b *builder) fileSystem(ctx context.Context, part layout.Partition, tree *assemble.Tree) (string, error) {
	write := func(ctx context.Context, name string) error {
		if part.FileSystem == layout.FAT {
			volume, err := strconv.ParseUint(part.UUID[:8], 16, 32)
			if err != nil {
				return err
			}
			return assemble.FAT{Label: part.Label, Volume: uint32(volume), Size: part.Size, Epoch: b.epoch}.Write(ctx,
				name, tree)
		}
		x := b.ext4(part.Label, part.Size)
		x.UUID = part.UUID
		return x.Write(ctx, name, tree)
	}
	// The UUID stands for the content; everything else that decides about the bytes is here.
	key := fmt.Sprintf("%s %s %s", b.ext4(part.Label, part.Size).Key(), part.UUID, part.FileSystem)
	return b.file(ctx, part.Label, "fs.img", key, write)
}

// file runs a stage that writes one file, unless the cache has the file, and returns its path.
func (b *builder) file(ctx context.Context, stage, name, key string,
	write func(ctx context.Context, name string) error) (string, error) {
	dir, err := b.stage(ctx, stage, key, func(ctx context.Context, dir string) error {
		return write(ctx, filepath.Join(dir, name))
	})
	return filepath.Join(dir, name), err
}

// stage runs a stage that fills a directory, unless the cache has its result, and returns the directory.
func (b *builder) stage(ctx context.Context, name, key string,
	fill func(ctx context.Context, dir string) error) (string, error) {
	done := b.Progress.Begin(name)
	dir, cached, err := b.store.do(ctx, name, key, fill)
	done(cached)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return dir, nil
}
