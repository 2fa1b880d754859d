package modinfo_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/bsp/apt"
	"resinos/bsp/boards"
	"resinos/bsp/deb"
	"resinos/bsp/kmod"
	"resinos/bsp/lock"
	"resinos/bsp/modinfo"
	"resinos/mounts/disk"
)

// promised are the modules that every board's root must be able to load, or have built in.
const promised = "overlay bridge veth vfat nls_cp437 nls_ascii virtio_net nf_tables nft_masq nft_nat nft_ct " +
	"nft_chain_nat nft_compat " +
	"mac80211_hwsim bochs virtio_gpu usb_storage cdc_acm cdc_ether ftdi_sio option qmi_wwan qcserial 9p 9pnet_virtio " +
	"zram dm_mod dm_verity " +
	"dm_flakey tun tap wireguard nvme ahci sd_mod e1000 e1000e igb r8169 softdog null_blk fuse efivarfs hid_generic " +
	"mmc_block " +
	"virtio_balloon virtio_rng quota_v2"

// mostRoot bounds the modules of a root, uncompressed. Measured: 49 and 34 MB, which squashfs makes 8.8 and 7.1.
const mostRoot = 55 * disk.MiB

// TestShippedBoards runs the whole way with the real packages of every board: fetched, unpacked, closed over
// dependencies, indexed. The cache is the builder's own, so that each package is downloaded once.
func TestShippedBoards(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: fetches packages")
	}
	for _, name := range boards.Names() {
		t.Run(name, func(t *testing.T) {
			board, err := boards.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			tree := unpacked(t, board)
			if unused := board.Modules.Unused(tree.Paths()); len(unused) > 0 {
				t.Errorf("patterns of %s that match nothing: %q", name, unused)
			}
			early := board.Initramfs.Modules
			check(t, tree, early, early)
			all := append(tree.Select(board.Modules.Match), early...)
			if size := check(t, tree, all, append(strings.Fields(promised), early...)); size > mostRoot {
				t.Errorf("the root carries %d MiB of modules, want at most %s", size/disk.MiB, mostRoot)
			}
		})
	}
}

// unpacked fetches and unpacks the modules of a board's kernel.
func unpacked(t *testing.T, board boards.Board) *modinfo.Tree {
	t.Helper()
	l, err := lock.Load(board.Name)
	if err != nil {
		t.Fatal(err)
	}
	pin, _ := l.Find(l.Kernel)
	paths, err := apt.Fetch(t.Context(), apt.For(board, "../../.cache"), []lock.Package{pin})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	want := func(name string) bool { return strings.HasPrefix(name, "usr/lib/modules/") }
	err = deb.Extract(paths[pin.Name], want, func(e deb.Entry, r io.Reader) error {
		if !e.Mode.IsRegular() {
			return nil
		}
		file := filepath.Join(dir, e.Name)
		content, err := io.ReadAll(r)
		return errors.Join(err, os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o644))
	})
	if err != nil {
		t.Fatal(err)
	}
	releases, err := filepath.Glob(filepath.Join(dir, "usr/lib/modules/*"))
	if err != nil || len(releases) != 1 {
		t.Fatalf("releases %q, %v", releases, err)
	}
	tree, err := modinfo.OpenTree(releases[0])
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// check makes the index of carried and wants that each of promised loads from it. It returns the size of all modules.
func check(t *testing.T, tree *modinfo.Tree, carried, promised []string) (size disk.Bytes) {
	t.Helper()
	closed, err := tree.Closure(t.Context(), carried)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, m := range closed {
		content, err := tree.Content(m)
		if err != nil {
			t.Error(err)
		}
		there[m.Name] = true
		size += disk.Bytes(len(content))
	}
	dir := t.TempDir()
	if err := kmod.WriteIndex(dir, append(closed, tree.Builtin()...)); err != nil {
		t.Fatal(err)
	}
	index, err := kmod.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range promised {
		files, err := index.Order(name)
		if err != nil {
			t.Error(err)
		}
		for _, f := range files {
			if !there[kmod.NameOf(f)] {
				t.Errorf("%s needs %s, which is not carried", name, f)
			}
		}
	}
	return size
}
