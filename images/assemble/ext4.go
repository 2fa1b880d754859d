package assemble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"resinos/mounts/disk"
)

// The features of every ext4 that we write. The list is fixed (it begins with "none") so that a newer mke2fs on the
// build host adds nothing that GRUB 2.12 or U-Boot 2025.01 cannot read in a slot: no metadata_csum_seed, orphan_file,
// large_dir, encrypt, casefold, inline_data. metadata_csum is read-only compatible: both bootloaders ignore it. They
// never read state and data, where metadata_csum_seed lets the device change the UUID (mounts/grow).
const (
	featuresSlot = "none,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,large_file," +
		"huge_file,dir_nlink,extra_isize,metadata_csum"
	featuresState = featuresSlot + ",has_journal,resize_inode,64bit,metadata_csum_seed"
	featuresQuota = featuresState + ",quota,project"
)

// Ext4 describes an ext4 file system to write.
type Ext4 struct {
	Label string
	UUID  string // it is also the seed for the hash of directories
	Size  disk.Bytes
	Epoch int64 // the time stamp of everything in it

	Writable        bool       // has a journal and can grow; a slot has no journal and never grows
	Journal         disk.Bytes // size of the journal if Writable
	ReservedPercent int        // blocks that only root may use
	GrowsTo         disk.Bytes // block group descriptors are reserved for growth up to this size
	Quota           bool       // if Writable: it has project quotas (mounts/quota)
}

// Write creates a file at name that contains the file system with the tree. The file is sparse. Tables and journal are
// fully initialised, so that the kernel's lazy initialisation finds nothing to do and a first boot writes nothing.
//
// debugfs writes the files instead of "mke2fs -d": e2fsprogs 1.47.0 copies ctime, atime and owner from the host into
// the inodes, while debugfs sets what it is given, in the given order.
func (x Ext4) Write(ctx context.Context, name string, tree *Tree) error {
	if err := x.format(ctx, name); err != nil {
		return fmt.Errorf("create ext4 %s: %w", x.Label, err)
	}
	work, err := os.MkdirTemp(filepath.Dir(name), "ext4-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work) // temporary files; it does no harm if they stay
	script, err := x.script(work, tree)
	if err != nil {
		return err
	}
	if err := x.fill(ctx, name, script); err != nil {
		return fmt.Errorf("fill ext4 %s (%s): %w", x.Label, x.Size, err)
	}
	if err := x.count(ctx, name); err != nil {
		return fmt.Errorf("count ext4 %s: %w", x.Label, err)
	}
	if _, err := (call{command: "e2fsck", args: []string{"-fn", name}, epoch: x.Epoch}).run(ctx); err != nil {
		return fmt.Errorf("check ext4 %s: %w", x.Label, err)
	}
	return nil
}

func (x Ext4) format(ctx context.Context, name string) error {
	if err := makeSparse(name, x.Size); err != nil {
		return err
	}
	_, err := call{command: "mke2fs", args: append(x.arguments(), name), epoch: x.Epoch,
		env: []string{"MKE2FS_CONFIG=/dev/null"}}.run(ctx)
	return err
}

// Key is what decides, besides the tree, which bytes Write produces: for caches. It contains the command line, so that
// a change of the code that produces that counts too.
func (x Ext4) Key() string { return fmt.Sprintf("%+v %q", x, x.arguments()) }

// arguments returns the mke2fs command line without the file.
func (x Ext4) arguments() []string {
	extended := "root_owner=0:0,hash_seed=" + x.UUID + ",lazy_itable_init=0,lazy_journal_init=0,nodiscard"
	args := []string{"-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", strconv.Itoa(x.bytesPerInode()), "-L",
		x.Label, "-U", x.UUID, "-m", strconv.Itoa(x.ReservedPercent)}
	if !x.Writable {
		return append(args, "-O", featuresSlot, "-E", extended)
	}
	if x.GrowsTo > x.Size {
		extended += ",resize=" + strconv.FormatInt(int64(x.GrowsTo/4096), 10)
	}
	features := featuresState
	if x.Quota {
		// Only project quotas: user and group quotas too would cost three times the writes.
		features, extended = featuresQuota, extended+",quotatype=prjquota"
	}
	if group := x.blocksPerGroup(); group != 0 {
		args = append(args, "-g", strconv.Itoa(group))
	}
	return append(args, "-O", features, "-J", "size="+strconv.FormatInt(int64(x.Journal/disk.MiB), 10), "-E", extended)
}

// blocksPerGroup makes two block groups of a file system that would have one, because the second group contains the
// copy of the superblock from which a repair begins (FindCopy of mounts/ext4). 0 means mke2fs's default, 32,768, also
// for a file system that will grow beyond a group: many small groups would be slow.
func (x Ext4) blocksPerGroup() int {
	const most = 32768
	blocks := int(x.Size / 4096)
	if blocks > most || x.GrowsTo > x.Size {
		return 0
	}
	return (blocks/2 + 7) &^ 7 // mke2fs demands a multiple of 8
}

// count lets e2fsck write the quota of the files, which debugfs does not do.
func (x Ext4) count(ctx context.Context, name string) error {
	if !x.Writable || !x.Quota {
		return nil
	}
	_, err := call{command: "e2fsck", args: []string{"-fp", name}, epoch: x.Epoch}.run(ctx)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 { // e2fsck(8): something was corrected
		return nil
	}
	return err
}

// fill runs a debugfs script. debugfs continues after a failed command and exits with 0, so its error messages decide.
func (x Ext4) fill(ctx context.Context, name, script string) error {
	file := name + ".debugfs"
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return err
	}
	defer os.Remove(file)
	text, err := call{command: "debugfs", args: []string{"-w", "-f", file, name}, epoch: x.Epoch}.run(ctx)
	if err != nil {
		return err
	}
	var faults []error
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "debugfs ") { // the version line
			faults = append(faults, errors.New(line))
		}
	}
	return errors.Join(faults...)
}

// script returns the debugfs script that writes the tree into an empty file system. Contents without a host file are
// written below work first.
func (x Ext4) script(work string, tree *Tree) (string, error) {
	var b strings.Builder
	for i, e := range tree.Entries() {
		dir := "/" + strings.TrimPrefix(path.Dir(e.Path), ".")
		// debugfs uses its current directory as the parent of "/name", so the script changes to each directory first.
		fmt.Fprintf(&b, "cd \"%s\"\n", dir)
		switch {
		case e.Mode.IsDir():
			fmt.Fprintf(&b, "mkdir \"%s\"\n", path.Base(e.Path))
		case e.Mode&fs.ModeSymlink != 0:
			fmt.Fprintf(&b, "symlink \"%s\" \"%s\"\n", path.Base(e.Path), e.Target)
		case e.Mode.IsRegular():
			source, err := hostFile(e, filepath.Join(work, strconv.Itoa(i)))
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "write \"%s\" \"%s\"\n", source, path.Base(e.Path))
		default:
			return "", fmt.Errorf("add %s to ext4 %s: mode %v is not used here", e.Path, x.Label, e.Mode)
		}
		b.WriteString(inodeFields("/"+e.Path, unixMode(e.Mode), x.Epoch))
	}
	b.WriteString(inodeFields("/", unixMode(fs.ModeDir|0o755), x.Epoch))
	return b.String(), nil
}

// inodeFields sets the fields of an inode that could otherwise come from the host.
func inodeFields(name string, mode uint32, epoch int64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "sif \"%s\" mode 0%o\n", name, mode)
	for _, field := range []string{"uid", "gid", "generation", "atime_extra", "ctime_extra", "mtime_extra",
		"crtime_extra"} {
		fmt.Fprintf(&b, "sif \"%s\" %s 0\n", name, field)
	}
	for _, field := range []string{"atime", "ctime", "mtime", "crtime"} {
		fmt.Fprintf(&b, "sif \"%s\" %s @%d\n", name, field, epoch)
	}
	return b.String()
}

// hostFile returns a host file with the entry's content; if there is none, it writes the content to spare.
func hostFile(e Entry, spare string) (string, error) {
	if e.Source != "" {
		return filepath.Abs(e.Source)
	}
	if err := os.WriteFile(spare, e.Content, 0o600); err != nil {
		return "", err
	}
	return filepath.Abs(spare)
}

// makeSparse creates an empty file of a size and replaces an older one.
func makeSparse(name string, size disk.Bytes) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(int64(size)), f.Close())
}

// Overhead is the part of the size that the file system itself uses.
func (x Ext4) Overhead() disk.Bytes {
	inodes := x.Size / disk.Bytes(x.bytesPerInode()) * 256
	groups := (x.Size + 128*disk.MiB - 1) / (128 * disk.MiB)
	own := inodes + groups*64*disk.KiB + x.Journal + disk.MiB
	if x.GrowsTo > x.Size {
		own += x.GrowsTo / (128 * disk.MiB) * 64 // reserved group descriptors
	}
	return own + x.Size*disk.Bytes(x.ReservedPercent)/100
}

// ReadExt4File reads a file of the ext4 that begins at byte start of an image.
func ReadExt4File(ctx context.Context, image string, start disk.Bytes, name string) ([]byte, error) {
	// libext2fs reads what follows a question mark as an option, so a name with one cannot be used.
	if strings.Contains(image, "?") {
		return nil, fmt.Errorf("read %s in %s: rename the image, debugfs cannot open a name with a question mark", name,
			image)
	}
	var out bytes.Buffer
	args := []string{"-R", fmt.Sprintf("cat \"%s\"", name), image + "?offset=" + strconv.FormatInt(int64(start), 10)}
	text, err := call{command: "debugfs", args: args, stdout: &out}.run(ctx)
	if err != nil {
		return nil, err
	}
	if out.Len() == 0 {
		return nil, fmt.Errorf("read %s: %s", name, lastLines(text, 1))
	}
	return out.Bytes(), nil
}

// DumpExt4 copies all that is in the ext4 in the file image into the directory dir, which is there.
func DumpExt4(ctx context.Context, image, dir string) error {
	if strings.ContainsAny(image+dir, "?\" ") {
		return fmt.Errorf("read %s: debugfs cannot open a name with a question mark, a quote or a blank", image)
	}
	text, err := call{command: "debugfs", args: []string{"-R", fmt.Sprintf("rdump / %s", dir), image}}.run(ctx)
	if err == nil && os.Geteuid() == 0 && strings.Contains(text, "rdump:") {
		err = errors.New(lastLines(text, 1)) // without root it cannot keep owners, and says so
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", image, err)
	}
	return nil
}

// bytesPerInode sets the number of inodes: container images are many small files, a slot is a few large ones.
func (x Ext4) bytesPerInode() int {
	if x.Writable {
		return 8192
	}
	return 256 * 1024
}
