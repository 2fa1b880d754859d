package boottest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"resinos/bsp/slot"
	"resinos/images/keyring"
	"resinos/images/qemu"
	"resinos/mounts/disk"
)

// broken VARIABLE SCRIPT: makes an update of the story's image that SCRIPT, a file of the story, has changed, signs it
// with the developer's key and offers it like bundle does. SCRIPT runs in the host's shell; $SLOT is a directory with
// the files of the slot, $ROOT one with the content of its root, and $GOARCH is that of the board. The version is
// 0.9.0-SCRIPT, without the ending.
func cmdBroken(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 2 && !neg, "broken VARIABLE SCRIPT")
	s := sceneOf(ts)
	o, err := s.images.options(s.board, "development")
	ts.Check(err)
	name := strings.TrimSuffix(args[1], ".sh")
	b := breaker{ctx: s.ctx, dir: ts.MkAbs("broken-" + name), version: "0.9.0-" + name, arch: goArch[s.board]}
	file := ts.MkAbs(name + ".bundle")
	ts.Check(b.bundle(o.Image, ts.ReadFile(args[1]), file))
	s.serveBundle(ts, args[0], file)
}

// production: builds a production image that trusts the developer's key; the story's own device boots from it.
// production VARIABLE VERSION: offers an update to this version for it, like bundle does.
func cmdProduction(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	usage(ts, (len(args) == 0 || len(args) == 2) && !neg && !s.shared, "production [VARIABLE VERSION]")
	root, err := filepath.Abs(top)
	ts.Check(err)
	cache := filepath.Join(root, ".cache")
	b := breaker{ctx: s.ctx, dir: root}
	resin := func(command ...string) { ts.Check(b.run("bin/resin", append(command, "--cache", cache)...)) }
	ring, err := keyring.Development(keyring.DevelopmentDir(cache))
	ts.Check(err)
	build := []string{"build", "--board", s.board, "--variant", "production", "--keys", ring.Dir}
	if len(args) == 0 {
		s.disk = ts.MkAbs("disk.img")
		resin(append(build, "-o", s.disk)...)
		return
	}
	image, file := ts.MkAbs("next.img"), ts.MkAbs(args[1]+".bundle")
	resin(append(build, "--version", args[1], "-o", image)...)
	resin("bundle", image, "-o", file)
	ts.Check(os.Remove(image))
	s.serveBundle(ts, args[0], file)
}

// breaker makes the bundle of a changed slot, in a directory that it creates and removes.
type breaker struct {
	ctx     context.Context
	dir     string
	version string
	arch    string // of the board, as Go has it
}

func (b breaker) in(name string) string { return filepath.Join(b.dir, name) }

func (b breaker) bundle(image, script, file string) error {
	defer os.RemoveAll(b.dir) // the directory of the story goes all the same
	for _, dir := range []string{b.dir, b.in("slot")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := b.unpack(image); err != nil {
		return err
	}
	before, err := look(b.in("slot"), b.in("root"))
	if err != nil {
		return err
	}
	if err := b.run("sh", "-euc", script); err != nil {
		return err
	}
	after, err := look(b.in("slot"), b.in("root"))
	if err != nil {
		return err
	}
	if before == after {
		return errors.New("break slot: the script changed nothing")
	}
	return b.pack(image, file)
}

// look is a text that differs if anything below the directories does.
func look(dirs ...string) (string, error) {
	var all strings.Builder
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err == nil {
				fmt.Fprintln(&all, path, info.Mode(), info.Size(), info.ModTime().UnixNano())
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return all.String(), nil
}

// unpack gets the slot out of the image, and the root out of the slot.
func (b breaker) unpack(image string) error {
	if err := GetPartition(image, disk.RootA, b.in("part")); err != nil {
		return err
	}
	if err := b.run("debugfs", "-R", "rdump / "+b.in("slot"), b.in("part")); err != nil {
		return err
	}
	if err := os.Remove(b.in("slot/lost+found")); err != nil {
		return err
	}
	return b.run("unsquashfs", "-quiet", "-no-progress", "-dest", b.in("root"), b.in("slot/"+slot.Root))
}

// pack makes the bundle of an image whose slot A has the files of the slot and the root.
func (b breaker) pack(image, file string) error {
	if err := b.run("mksquashfs", b.in("root"), b.in("slot/"+slot.Root), "-noappend", "-comp", "lz4", "-no-xattrs",
		"-all-root", "-reproducible", "-all-time", "0", "-mkfs-time", "0", "-quiet", "-no-progress"); err != nil {
		return err
	}
	changes, err := b.manifest()
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.in("changes"), []byte(changes), 0o600); err != nil {
		return err
	}
	copied := b.in("image")
	if err := errors.Join(b.run("debugfs", "-w", "-f", b.in("changes"), b.in("part")),
		b.run("e2fsck", "-fn", b.in("part")), b.run("cp", "--sparse=always", image, copied)); err != nil {
		return err
	}
	if err := PutPartition(copied, disk.RootA, b.in("part")); err != nil {
		return err
	}
	root, err := filepath.Abs(top)
	if err != nil {
		return err
	}
	return b.run(filepath.Join(root, "bin/resin"), "bundle", copied, "-o", file, "--cache",
		filepath.Join(root, ".cache"))
}

// manifest makes the slot's manifest true again, and returns what debugfs has to do for the slot to have its files.
func (b breaker) manifest() (changes string, err error) {
	name := b.in("slot/" + slot.ManifestFile)
	text, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	m, err := slot.ParseManifest(text)
	if err != nil {
		return "", err
	}
	m.Version = b.version
	var script strings.Builder
	m.Files = slices.DeleteFunc(m.Files, func(f slot.File) bool {
		fmt.Fprintf(&script, "rm %s\n", f.Name)
		_, err := os.Stat(b.in("slot/" + f.Name))
		return err != nil
	})
	for i, f := range m.Files {
		content, err := os.ReadFile(b.in("slot/" + f.Name))
		if err != nil {
			return "", err
		}
		sum := sha256.Sum256(content)
		m.Files[i].Size, m.Files[i].SHA256 = int64(len(content)), hex.EncodeToString(sum[:])
		fmt.Fprintf(&script, "write %s %s\n", b.in("slot/"+f.Name), f.Name)
	}
	if text, err = m.Encode(); err != nil {
		return "", err
	}
	fmt.Fprintf(&script, "rm %s\nwrite %s %s\n", slot.ManifestFile, name, slot.ManifestFile)
	return script.String(), os.WriteFile(name, text, 0o600)
}

// run runs a program of the host. The error has what it said.
func (b breaker) run(name string, args ...string) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(b.ctx, name, args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "SLOT="+b.in("slot"), "ROOT="+b.in("root"), "GOARCH="+b.arch)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s %s: %w\n%s", name, strings.Join(args, " "), err, said.String())
	}
	return nil
}

// faultOf parses ACCESS:LABEL:BLOCK[:once][:full], a fault of the disk: reads or writes (ACCESS is read or write) of
// one block of 4 KiB, counted in the partition LABEL of the image, fail. once: only the first one does; full: because
// the disk has no space left.
func faultOf(image, text string) (f qemu.Fault, err error) {
	part := strings.Split(text, ":")
	if len(part) < 3 || part[0] != "read" && part[0] != "write" {
		return f, fmt.Errorf("fault %s: want ACCESS:LABEL:BLOCK[:once][:full]", text)
	}
	f.Write = part[0] == "write"
	for _, word := range part[3:] {
		switch word {
		case "once":
			f.Once = true
		case "full":
			f.NoSpace = true
		default:
			return f, fmt.Errorf("fault %s: unknown word %s", text, word)
		}
	}
	block, err := strconv.ParseInt(part[2], 10, 64)
	if err != nil {
		return f, fmt.Errorf("fault %s: %w", text, err)
	}
	disk, err := os.Open(image)
	if err != nil {
		return f, err
	}
	defer disk.Close() // nothing was written
	start, _, err := partitionRange(disk, part[1])
	f.Sector = start/512 + block*8
	return f, err
}
