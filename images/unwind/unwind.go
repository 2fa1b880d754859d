// Package unwind removes from a program or library the tables that describe how its functions return. Only exceptions
// of C++, cancelled threads and debuggers read these tables, and on a device nothing can: the root does not have the
// library for that (libgcc_s). The package changes nothing else in a file. Read Remove first.
package unwind

import (
	"bytes"
	"debug/elf"
	"fmt"
	"slices"
)

// tables are the sections that describe how functions return (System V ABI, "Exception Frames").
var tables = []string{".eh_frame", ".eh_frame_hdr"}

// readers are the libraries that read the tables of other files.
var readers = []string{"libgcc_s.so.1", "libstdc++.so.6", "libunwind.so.8"}

// Remove returns the file with zeros in place of these tables: every address and offset stays as it was. A file that is
// no ELF file comes back as it is. It fails for an ELF file that is damaged, or that needs a library which reads the
// tables.
func Remove(file []byte) ([]byte, error) {
	if !bytes.HasPrefix(file, []byte(elf.ELFMAG)) {
		return file, nil
	}
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("remove unwind tables: %w", err)
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("remove unwind tables: %w", err)
	}
	for _, name := range needed {
		if slices.Contains(readers, name) {
			return nil, fmt.Errorf("remove unwind tables: the file needs %s, which reads them", name)
		}
	}
	out := bytes.Clone(file)
	for _, s := range f.Sections {
		if s.Type == elf.SHT_NOBITS || !slices.Contains(tables, s.Name) {
			continue
		}
		if s.Offset > uint64(len(out)) || s.FileSize > uint64(len(out))-s.Offset {
			return nil, fmt.Errorf("remove unwind tables: section %s is cut off", s.Name)
		}
		clear(out[s.Offset : s.Offset+s.FileSize])
	}
	return out, nil
}
