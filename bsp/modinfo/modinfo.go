// Package modinfo reads the description of a kernel module from its file. It is the part of module handling that only
// the builder links: ELF and xz.
//
// It never loads a module and decides nothing. Read Tree first.
package modinfo

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"resinos/bsp/kmod"
)

// mostModule limits the size of an uncompressed module: the largest of Debian's has 25 MB.
const mostModule = 256 << 20

// Parse reads the .modinfo section of an uncompressed module.
func Parse(ko []byte) (kmod.Module, error) {
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return kmod.Module{}, fmt.Errorf("read module: %w", err)
	}
	section := f.Section(".modinfo")
	if section == nil {
		return kmod.Module{}, errors.New("read module: it has no section .modinfo")
	}
	if section.Size > uint64(len(ko)) {
		return kmod.Module{}, errors.New("read module: section .modinfo is cut off")
	}
	text, err := section.Data()
	if err != nil {
		return kmod.Module{}, fmt.Errorf("read module: section .modinfo: %w", err)
	}
	return kmod.ParseModinfo(text)
}

// ReadFile reads a module file and uncompresses it according to its name: .ko, .ko.xz, .ko.gz or .ko.zst.
func ReadFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() // nothing was written
	plain, err := decompress(file, f)
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", file, err)
	}
	ko, err := io.ReadAll(io.LimitReader(plain, mostModule+1))
	if err == nil && len(ko) > mostModule {
		err = errors.New("larger than any module")
	}
	if err != nil {
		return nil, fmt.Errorf("read module %s: %w", file, err)
	}
	return ko, nil
}

func decompress(file string, f io.Reader) (io.Reader, error) {
	switch filepath.Ext(file) {
	case ".ko":
		return f, nil
	case ".xz":
		return xz.NewReader(f)
	case ".gz":
		return gzip.NewReader(f)
	case ".zst":
		d, err := zstd.NewReader(f)
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return nil, errors.New("its compression is not known")
}

// plainPath returns the path of a module without the suffix of its compression: "kernel/fs/fat/vfat.ko".
func plainPath(p string) string {
	head, _, found := strings.Cut(p, ".ko")
	if !found {
		return p
	}
	return head + ".ko"
}
