package bootbench

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"resinos/bsp/apt"
	"resinos/bsp/boards"
	"resinos/bsp/deb"
	"resinos/bsp/lock"
	"resinos/bsp/modinfo"
	"resinos/images/assemble"
	"resinos/images/build"
	"resinos/images/ociimage"
	"resinos/images/qemu"
	"resinos/mounts/disk"
)

//go:embed testdata
var embedded embed.FS

// A peer is the disk and the kernel that the shell script boots from.
type peer struct {
	disk, kernel, initramfs string
	versions                []string // of the packages that it is made of
}

// The packages of the peer: those that the board's lock pins, and Debian's containerd and runc. Of these two, the
// newest versions on the mirror are used, and kept for later runs.
var (
	lockedPackages = []string{"busybox-static", "crun", "libc6", "libcap2", "libseccomp2", "libsystemd0", "libyajl2"}
	servedPackages = []string{"containerd", "runc"}
	servedFiles    = []string{"usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr", "usr/sbin/runc",
		"etc/containerd/config.toml"}
	earlyModules = []string{"crc32c_generic", "virtio_blk", "ext4"}
	rootModules  = []string{"virtio_net", "overlay", "af_packet"}
	peerApplets  = []string{
		"cat", "insmod", "ip", "mkdir", "mount", "poweroff", "sh", "sleep", "switch_root", "sync", "touch", "udhcpc",
		"usleep",
	}
)

const (
	diskSize  = 512 * disk.MiB
	peerEpoch = 1767225600
)

// peerBuilder makes the files of the peer below dir.
type peerBuilder struct {
	board      boards.Board
	cache, dir string
	packages   string // directory of all packages' files
	release    string // directory of the kernel's modules
}

// buildPeer makes the peer's disk, kernel and initramfs below dir. The disk is not prepared yet.
func buildPeer(ctx context.Context, board boards.Board, cache, dir string) (peer, error) {
	b := &peerBuilder{board: board, cache: cache, dir: dir, packages: filepath.Join(dir, "packages")}
	versions, err := b.unpack(ctx)
	if err != nil {
		return peer{}, fmt.Errorf("unpack packages of the peer: %w", err)
	}
	p := peer{disk: filepath.Join(dir, "peer.img"), initramfs: filepath.Join(dir, "initramfs"), versions: versions}
	if p.kernel, err = one(filepath.Join(b.packages, board.Kernel.Image)); err != nil {
		return peer{}, err
	}
	if b.release, err = one(filepath.Join(b.packages, "usr/lib/modules/*")); err != nil {
		return peer{}, err
	}
	early, err := b.early(ctx)
	if err == nil {
		err = assemble.WriteInitramfs(p.initramfs, nil, early, peerEpoch)
	}
	if err != nil {
		return peer{}, fmt.Errorf("make initramfs of the peer: %w", err)
	}
	root, err := b.root(ctx)
	if err == nil {
		x := assemble.Ext4{Label: "peer", UUID: "5e55a0c5-7f0a-4a61-9f3b-0a5a0b6e0001", Size: diskSize,
			Epoch: peerEpoch, Writable: true, Journal: 16 * disk.MiB}
		err = x.Write(ctx, p.disk, root)
	}
	if err != nil {
		return peer{}, fmt.Errorf("make disk of the peer: %w", err)
	}
	return p, nil
}

func one(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("find %s: %d files match, want one", pattern, len(found))
	}
	if err != nil {
		return "", err
	}
	return found[0], nil
}

// unpack puts the files of all packages below b.packages, and returns their versions.
func (b *peerBuilder) unpack(ctx context.Context) ([]string, error) {
	pins, err := lock.Load(b.board.Name)
	if err != nil {
		return nil, err
	}
	names := append([]string{pins.Kernel}, lockedPackages...)
	if err := build.Unpack(ctx, build.Options{Board: b.board.Name, Cache: b.cache}, names, b.packages); err != nil {
		return nil, err
	}
	var versions []string
	for _, name := range names {
		p, _ := pins.Find(name) // Unpack has found it
		versions = append(versions, p.Name+" "+p.Version)
	}
	served, err := b.served(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range served {
		versions = append(versions, p.Name+" "+p.Version)
	}
	return versions, b.unpackServed(ctx, served)
}

// served are the packages that were taken first: the peer stays the same until its directory is removed.
func (b *peerBuilder) served(ctx context.Context) (pins []lock.Package, err error) {
	file := filepath.Join(b.dir, "served.json")
	text, err := os.ReadFile(file)
	if err == nil {
		return pins, json.Unmarshal(text, &pins)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// none stands for a kernel
	if pins, _, err = apt.Resolve(ctx, apt.For(b.board, b.cache), servedPackages[0], servedPackages); err != nil {
		return nil, err
	}
	if text, err = json.Marshal(pins); err != nil {
		return nil, err
	}
	return pins, os.WriteFile(file, text, 0o644)
}

func (b *peerBuilder) unpackServed(ctx context.Context, pins []lock.Package) error {
	files, err := apt.Fetch(ctx, apt.For(b.board, b.cache), pins)
	if err != nil {
		return err
	}
	wanted := func(name string) bool { return slices.Contains(servedFiles, name) }
	for _, pin := range pins {
		err := deb.Extract(files[pin.Name], wanted, func(e deb.Entry, r io.Reader) error {
			content, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			target := filepath.Join(b.packages, e.Name)
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return err
			}
			return os.WriteFile(target, content, 0o755)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// early is the tree of the initramfs.
func (b *peerBuilder) early(ctx context.Context) (*assemble.Tree, error) {
	tree := &assemble.Tree{}
	err := errors.Join(
		b.busybox(tree, "bin", "usr/bin", "usr/sbin", "sbin"),
		tree.Add(script("init", "early-init.sh")),
		tree.Add(assemble.Entry{Path: "dev/console", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o600,
			Device: assemble.Device{Major: 5, Minor: 1}}),
		tree.Add(assemble.Entry{Path: "root", Mode: fs.ModeDir | 0o755}),
	)
	return tree, errors.Join(err, b.modules(ctx, tree, earlyModules, nil))
}

// root is the tree of the disk.
func (b *peerBuilder) root(ctx context.Context) (*assemble.Tree, error) {
	tree := &assemble.Tree{}
	image, err := benchImage(filepath.Join(b.packages, "usr/bin/busybox"), b.board.Arch)
	if err != nil {
		return nil, err
	}
	faults := []error{
		b.busybox(tree, "usr/bin"),
		tree.Add(script("usr/sbin/init", "init.sh")),
		tree.Add(script("etc/udhcpc.sh", "udhcpc.sh")),
		tree.Add(script("etc/containerd.toml", "containerd.toml")),
		// ctr binds both into the container
		tree.Add(assemble.Entry{Path: "etc/hosts", Mode: 0o644, Content: []byte("127.0.0.1 localhost\n")}),
		tree.Add(assemble.Entry{Path: "etc/resolv.conf", Mode: 0o644}),
		tree.Add(assemble.Entry{Path: "bench.tar", Mode: 0o644, Content: image}),
		b.libraries(tree),
		b.modules(ctx, tree, append(append([]string{}, earlyModules...), rootModules...), earlyModules),
	}
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "root", "var/lib"} {
		faults = append(faults, tree.Add(assemble.Entry{Path: dir, Mode: fs.ModeDir | 0o755}))
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		faults = append(faults, tree.Add(assemble.Entry{Path: link, Mode: fs.ModeSymlink | 0o777,
			Target: "usr/" + link}))
	}
	for _, file := range append([]string{"usr/bin/crun"}, servedFiles...) {
		faults = append(faults, tree.Add(assemble.Entry{Path: file, Mode: 0o755, Source: filepath.Join(b.packages,
			file)}))
	}
	return tree, errors.Join(faults...)
}

func script(path, name string) assemble.Entry {
	text, err := embedded.ReadFile("testdata/" + name)
	if err != nil {
		panic(err) // the name is wrong in this source
	}
	return assemble.Entry{Path: path, Mode: 0o755, Content: text}
}

// busybox adds the program and its links to each directory.
func (b *peerBuilder) busybox(tree *assemble.Tree, dirs ...string) error {
	faults := []error{tree.Add(assemble.Entry{Path: "usr/bin/busybox", Mode: 0o755, Source: filepath.Join(b.packages,
		"usr/bin/busybox")})}
	for _, dir := range dirs {
		for _, applet := range peerApplets {
			faults = append(faults, tree.Add(assemble.Entry{Path: dir + "/" + applet, Mode: fs.ModeSymlink | 0o777,
				Target: "/usr/bin/busybox"}))
		}
	}
	return errors.Join(faults...)
}

// libraries adds the loader and every shared library.
func (b *peerBuilder) libraries(tree *assemble.Tree) error {
	for _, top := range []string{"usr/lib", "usr/lib64"} {
		err := filepath.WalkDir(filepath.Join(b.packages, top), func(file string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || e.IsDir() || !strings.Contains(e.Name(), ".so") || strings.Contains(file, "/modules/") ||
				strings.Contains(file, "/gconv/") {
				return err
			}
			name, err := filepath.Rel(b.packages, file)
			if err != nil {
				return err
			}
			if e.Type()&fs.ModeSymlink == 0 {
				return tree.Add(assemble.Entry{Path: name, Mode: 0o755, Source: file})
			}
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			return tree.Add(assemble.Entry{Path: name, Mode: fs.ModeSymlink | 0o777, Target: target})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// modules adds the wanted modules and what they need, named so that the shell loads them in order; those that loaded
// already are left out.
func (b *peerBuilder) modules(ctx context.Context, tree *assemble.Tree, wanted, loaded []string) error {
	all, err := modinfo.OpenTree(b.release)
	if err != nil {
		return err
	}
	before, err := all.Closure(ctx, loaded)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, m := range before {
		have[m.Name] = true
	}
	closure, err := all.Closure(ctx, wanted)
	if err != nil {
		return err
	}
	for i, m := range closure {
		if m.Builtin || have[m.Name] {
			continue
		}
		content, err := all.Content(m)
		if err == nil {
			err = tree.Add(assemble.Entry{Path: fmt.Sprintf("modules/%02d-%s.ko", i, m.Name), Mode: 0o644,
				Content: content})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// benchImage is the container image that both sides run: it speaks, and says every ten seconds how much memory is in
// use.
func benchImage(busybox, arch string) ([]byte, error) {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return nil, err
	}
	text, err := embedded.ReadFile("testdata/container.sh")
	if err != nil {
		return nil, err
	}
	return ociimage.Image{
		Name: "resinos/bench:latest", Arch: arch, Busybox: program, Applets: []string{"sh", "sleep", "true"},
		Epoch:   peerEpoch,
		Command: []string{"sh", "-c", string(text)},
	}.Archive()
}

// start is how the peer boots. A count of instructions begins where the firmware starts the kernel; the guest's clock
// begins with the kernel, and then there is no firmware, which is to the peer's advantage (docs/bench.md).
func (p peer) start(o qemu.Options, arguments string) qemu.Options {
	o.Disks = []qemu.Disk{{Path: p.disk, Snapshot: true}}
	o.Kernel = &qemu.Kernel{Image: p.kernel, Initramfs: p.initramfs, CommandLine: arguments, ByFirmware: o.Shift != 0}
	return o
}
