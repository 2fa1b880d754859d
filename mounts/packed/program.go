package packed

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/mounts/attach"
)

// Visible is where a command of Program.Command sees the files of its packed program, also the libraries: the command
// inherits their directory as descriptor 3.
const Visible = "/proc/self/fd/3"

// Program is a program that a process starts by itself, packed or not. One goroutine uses it at a time.
type Program struct {
	Path string // in the directory of a packed program (Path), or anywhere else; or a link there
	root *os.File
}

// split returns the name of the packed program, empty if the program is not packed, and the path below its directory.
func (p *Program) split() (name, below string) {
	path := p.Path
	if target, err := os.Readlink(path); err == nil { // to nothing that is there, if it is packed
		if path = target; !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(p.Path), target)
		}
	}
	rest, packed := strings.CutPrefix(path, Directory+"/")
	name, below, deeper := strings.Cut(rest, "/")
	if !packed || !deeper {
		return "", p.Path
	}
	return name, below
}

// Command returns the command that runs the program with these arguments. The first command of a packed program
// attaches its files, which needs CAP_SYS_ADMIN and Linux 5.2: they appear in no mount table, and no other process
// sees them. The caller changes neither Path nor ExtraFiles of the command.
func (p *Program) Command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	name, below := p.split()
	if name == "" {
		return exec.CommandContext(ctx, p.Path, args...), nil
	}
	if p.root == nil {
		root, err := open(name)
		if err != nil {
			return nil, fmt.Errorf("attach packed program %s: %w", name, err)
		}
		p.root = root
	}
	cmd := exec.CommandContext(ctx, Visible+"/"+below, args...)
	cmd.Args[0], cmd.ExtraFiles = p.Path, []*os.File{p.root}
	return cmd, nil
}

// Close gives the files of a packed program back; the commands that still run keep them. The next command attaches them
// again.
func (p *Program) Close() error {
	if p.root == nil {
		return nil
	}
	root := p.root
	p.root = nil
	return root.Close()
}

// head is how much of a file Version reads: the superblock of a squashfs with the exact places of its tables, and the
// beginning of the data; the headers of an ELF file.
const head = 4 << 10

// Version returns a text that another version of the program does not have, as far as the size and the first bytes of
// its file say; of a packed program, those of the packed file. It attaches nothing.
func (p *Program) Version() (string, error) {
	name, file := p.split()
	if name != "" {
		file = Path(name) + Suffix
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	version, err := VersionOf(f, info.Size())
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	return version, nil
}

// VersionOf returns what Version returns of a file with this content and size in bytes.
func VersionOf(content io.Reader, size int64) (string, error) {
	sum := sha256.New()
	if _, err := io.CopyN(sum, content, head); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return fmt.Sprintf("%d-%x", size, sum.Sum(nil)[:8]), nil
}

// open returns the root directory of a packed program's files, mounted nowhere: the mount lasts until the last
// descriptor in it is closed and the last program of it ends.
func open(name string) (root *os.File, err error) {
	node, handle, err := attach.Loop(Path(name) + Suffix)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, handle.Close()) }() // the mount keeps the loop device
	fs, err := unix.Fsopen("squashfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open squashfs: %w", err)
	}
	defer unix.Close(fs)
	if err := errors.Join(unix.FsconfigSetString(fs, "source", node), unix.FsconfigSetFlag(fs, "ro"),
		unix.FsconfigCreate(fs)); err != nil {
		return nil, fmt.Errorf("read squashfs on %s: %w", node, err)
	}
	const attributes = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return nil, fmt.Errorf("mount squashfs on %s: %w", node, err)
	}
	return os.NewFile(uintptr(fd), Path(name)), nil
}
