package modinfo

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// The parts that Strip can remove from a module file.
const (
	// The kernel verifies it; a module without it taints the kernel, and is refused under lockdown.
	StripSignature = "signature"
	// Types for BPF programs that inspect the module.
	StripBTF = "btf"
	// What only tracing uses: calls of the function tracer, names of values of trace events.
	StripTrace = "trace"
	// How to walk a stack through the module (x86); the trace of a fault marks its functions with "?" then.
	StripUnwind = "unwind"
)

// signatureEnd is the end of a signed module file (include/linux/module_signature.h).
const signatureEnd = "~Module signature appended~\n"

// The fields of an ELF64 header and of a section header, of which only offset and size change (elf(5)).
const (
	headerSections = 0x28 // offset of the section table, in the header
	sectionHeader  = 64   // bytes of one section's header
	sectionOffset  = 0x18
	sectionSize    = 0x20
)

// mostAlign is the largest alignment of a section: that of the largest pages of a kernel.
const mostAlign = 64 << 10

// Strip returns the module file without the named parts; parts that the module lacks are ignored. Sections keep their
// numbers: a removed part becomes an empty section. It fails if ko is not a 64-bit little-endian module.
func Strip(ko []byte, parts []string) ([]byte, error) {
	if slices.Contains(parts, StripSignature) {
		var err error
		if ko, err = withoutSignature(ko); err != nil {
			return nil, err
		}
	}
	if slices.Contains(parts, StripTrace) {
		var err error
		if ko, err = withoutTrace(ko); err != nil {
			return nil, err
		}
	}
	var names []string
	if slices.Contains(parts, StripBTF) {
		names = append(names, ".BTF", ".BTF.base")
	}
	if slices.Contains(parts, StripUnwind) { // of x86; arm64 walks by frame pointers
		names = append(names, ".orc_unwind", ".orc_unwind_ip", ".rela.orc_unwind_ip")
	}
	if len(names) == 0 {
		return ko, nil
	}
	return withoutSections(ko, names...)
}

// withoutSignature removes what follows the ELF file:
//
//	signature (n bytes) | 8 bytes, the last 4 of the 12 before the end are n, big-endian | signatureEnd
func withoutSignature(ko []byte) ([]byte, error) {
	const trailer = 12 // struct module_signature
	body, signed := bytes.CutSuffix(ko, []byte(signatureEnd))
	if !signed {
		return ko, nil
	}
	if len(body) < trailer {
		return nil, errors.New("strip module: its signature is cut off")
	}
	size := uint64(binary.BigEndian.Uint32(body[len(body)-4:]))
	if size > uint64(len(body)-trailer) {
		return nil, errors.New("strip module: its signature is longer than the file")
	}
	return body[:len(body)-trailer-int(size)], nil
}

// withoutSections makes the named sections empty and moves up what follows them.
func withoutSections(ko []byte, names ...string) ([]byte, error) {
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return nil, fmt.Errorf("strip module: %w", err)
	}
	if f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB || f.Type != elf.ET_REL || len(f.Progs) > 0 {
		return nil, fmt.Errorf("strip module: it is %v %v %v, want a 64-bit little-endian relocatable file", f.Class,
			f.Data, f.Type)
	}
	table := binary.LittleEndian.Uint64(ko[headerSections:])
	if table > uint64(len(ko)) || uint64(len(f.Sections))*sectionHeader > uint64(len(ko))-table {
		return nil, errors.New("strip module: its section table is cut off")
	}
	headers := bytes.Clone(ko[table : table+uint64(len(f.Sections))*sectionHeader])
	order := make([]int, len(f.Sections))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order,
		func(a, b int) int { return int(int64(f.Sections[a].Offset) - int64(f.Sections[b].Offset)) })

	out := bytes.Clone(ko[:sectionHeader]) // the ELF64 header is as long as a section's
	for _, i := range order {
		s, header := f.Sections[i], headers[i*sectionHeader:]
		if s.Type == elf.SHT_NULL {
			continue
		}
		if s.Addralign > mostAlign {
			return nil, fmt.Errorf("strip module: section %s has an alignment of %d", s.Name, s.Addralign)
		}
		out = append(out, make([]byte, padding(len(out), s.Addralign))...)
		binary.LittleEndian.PutUint64(header[sectionOffset:], uint64(len(out)))
		switch {
		case slices.Contains(names, s.Name):
			binary.LittleEndian.PutUint64(header[sectionSize:], 0)
		case s.Type != elf.SHT_NOBITS:
			if s.Offset > uint64(len(ko)) || s.FileSize > uint64(len(ko))-s.Offset {
				return nil, fmt.Errorf("strip module: section %s is cut off", s.Name)
			}
			out = append(out, ko[s.Offset:s.Offset+s.FileSize]...)
		}
	}
	out = append(out, make([]byte, padding(len(out), 8))...)
	binary.LittleEndian.PutUint64(out[headerSections:], uint64(len(out)))
	return append(out, headers...), nil
}

// padding returns the number of bytes up to the next multiple of align.
func padding(n int, align uint64) int {
	if align < 2 {
		return 0
	}
	return int((align - uint64(n)%align) % align)
}
