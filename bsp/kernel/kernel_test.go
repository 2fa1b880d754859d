package kernel

import (
	"archive/tar"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"resinos/bsp/apt"
	"resinos/bsp/boards"
	"resinos/bsp/deb/debtest"
	"resinos/bsp/kmod"
	"resinos/bsp/lock"
	"resinos/mounts/disk"
)

func sampleBoard() boards.Board {
	return boards.Board{Name: "testboard", Kernel: boards.Kernel{Image: "boot/vmlinuz-*"}}
}

// samplePackage is a kernel package without modules: their files are tested in bsp/modinfo.
func samplePackage(t *testing.T, files ...string) string {
	t.Helper()
	var headers []tar.Header
	for _, f := range files {
		headers = append(headers, tar.Header{Name: "./" + f, Mode: 0o644})
	}
	headers = append(headers, tar.Header{Name: "./usr/lib/modules/6.12/build", Typeflag: tar.TypeSymlink, Linkname: "/usr/src/x"})
	file := filepath.Join(t.TempDir(), "linux.deb")
	debtest.Write(t, file, "gz", "", headers, map[string]string{"./boot/vmlinuz-6.12": "image"})
	return file
}

func TestOpen(t *testing.T) {
	for _, modules := range []string{"usr/lib/modules", "lib/modules"} { // trixie and bookworm
		file := samplePackage(t, "boot/vmlinuz-6.12", "boot/System.map", modules+"/6.12/modules.builtin", modules+"/6.12/kernel/x.txt",
			"usr/lib/linux-image-6.12/broadcom/pi.dtb", "usr/share/doc/x")
		cache := t.TempDir()
		for range 2 {
			k, err := Open(t.Context(), sampleBoard(), lock.Package{Name: "linux", SHA256: "x"}, file, cache)
			if err != nil {
				t.Fatal(err)
			}
			image, err := os.ReadFile(k.Image)
			if err != nil || string(image) != "image" || k.Release != "6.12" {
				t.Errorf("release %s, image %q, %v", k.Release, image, err)
			}
			if dtb, err := k.DeviceTree("pi.dtb"); err != nil || filepath.Base(dtb) != "pi.dtb" {
				t.Errorf("DeviceTree = %q, %v", dtb, err)
			}
			if dtb, err := k.DeviceTree("other.dtb"); err == nil {
				t.Errorf("DeviceTree of another board = %q", dtb)
			}
			if err := os.RemoveAll(file); err != nil { // the second time the package is not needed
				t.Fatal(err)
			}
		}
	}
}

func TestOpenFaults(t *testing.T) {
	cache := t.TempDir()
	pin := lock.Package{Name: "linux-image-x", SHA256: "x"}
	if _, err := Open(t.Context(), sampleBoard(), pin, filepath.Join(cache, "absent.deb"), cache); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open of a missing package: %v", err)
	}
	if _, err := os.Stat(filepath.Join(cache, "kernels", "sha256-x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a kernel is in the cache after a fault (%v)", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	file := samplePackage(t, "boot/vmlinuz-6.12", "usr/lib/modules/6.12/modules.builtin", "usr/lib/modules/6.12/kernel/x")
	if _, err := Open(ctx, sampleBoard(), pin, file, cache); !errors.Is(err, context.Canceled) {
		t.Errorf("Open: %v, want that it is cancelled", err)
	}
	noImage := samplePackage(t, "usr/lib/modules/6.12/modules.builtin")
	if _, err := Open(t.Context(), sampleBoard(), pin, noImage, cache); err == nil || !strings.Contains(err.Error(), "boot/vmlinuz-*") {
		t.Errorf("Open without image: %v", err)
	}
}

// TestShippedBoards runs the whole way with the real packages of every board: pinned, fetched, unpacked, closed over
// dependencies, indexed. The cache is the builder's own, so that each package is downloaded once.
func TestShippedBoards(t *testing.T) {
	if testing.Short() {
		t.Skip("fetches packages: not in -short")
	}
	const cacheDir = "../../.cache"
	const mostRoot = 55 * disk.MiB // uncompressed; measured 49 and 34 MB, which squashfs makes 9 and 7
	for _, name := range boards.Names() {
		t.Run(name, func(t *testing.T) {
			k, board := fetched(t, name, cacheDir)
			if unused := board.Modules.Unused(k.ModulePaths()); len(unused) > 0 {
				t.Errorf("patterns of %s that match nothing: %q", name, unused)
			}
			early, err := k.InitramfsModules(t.Context(), board)
			if err != nil {
				t.Fatal(err)
			}
			root, err := k.RootModules(t.Context(), board)
			if err != nil {
				t.Fatal(err)
			}
			checkSet(t, early, board.Initramfs.Modules)
			checkSet(t, root, append(board.Initramfs.Modules, strings.Fields(
				"overlay bridge veth vfat nls_cp437 nls_ascii virtio_net nf_tables nft_masq nft_nat nft_ct nft_chain_nat nft_compat "+
					"mac80211_hwsim bochs virtio_gpu usb_storage cdc_acm cdc_ether ftdi_sio option qmi_wwan qcserial 9p 9pnet_virtio zram dm_mod dm_verity "+
					"dm_flakey tun tap wireguard nvme ahci sd_mod e1000 e1000e igb r8169 softdog null_blk fuse efivarfs hid_generic mmc_block "+
					"virtio_balloon virtio_rng")...))
			if size := sizeOf(t, root.Dir); size > mostRoot {
				t.Errorf("the root of %s carries %d MiB of modules, want at most %s", name, size/disk.MiB, mostRoot)
			}
		})
	}
}

func fetched(t *testing.T, name, cacheDir string) (*Kernel, boards.Board) {
	t.Helper()
	board, err := boards.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	l, err := lock.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	pin, _ := l.Find(l.Kernel)
	paths, err := apt.Fetch(t.Context(), apt.For(board, cacheDir), []lock.Package{pin})
	if err != nil {
		t.Fatal(err)
	}
	k, err := Open(t.Context(), board, pin, paths[pin.Name], cacheDir)
	if err != nil {
		t.Fatal(err)
	}
	return k, board
}

// checkSet wants each module with everything its load order names.
func checkSet(t *testing.T, s Set, names []string) {
	t.Helper()
	index, err := kmod.Open(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		files, err := index.Order(name)
		if err != nil {
			t.Error(err)
		}
		for _, f := range files {
			if _, err := os.Stat(f); err != nil {
				t.Errorf("%s needs %v", name, err)
			}
		}
	}
}

func sizeOf(t *testing.T, dir string) (total disk.Bytes) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		if err == nil {
			total += disk.Bytes(st.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}
