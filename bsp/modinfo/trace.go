package modinfo

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// tracer is what each function of an x86-64 module calls first, so that it can be traced (gcc's -mfentry).
const tracer = "__fentry__"

// callLists are the sections that list these calls: on x86-64, and on arm64, where there are idle instructions instead
// of calls. Their relocations are in sections named ".rela" and the name.
var callLists = []string{"__mcount_loc", "__patchable_function_entries"}

// valueNames is the section with the names of values that trace events print. The kernel searches the formats of all
// its events for each of them when it loads the module.
const valueNames = "_ftrace_eval_map"

// The size of an entry of a relocation section (Elf64_Rela), and where its type is in it.
const (
	relocation     = 24
	relocationType = 8 // the low half of r_info
)

// idle is the idle instruction that is as long as a call: what the kernel writes over the calls of a loaded module.
var idle = [5]byte{0x0f, 0x1f, 0x44, 0, 0}

// place is a byte of a section, by the section's number.
type place struct {
	section int
	offset  uint64
}

// withoutTrace removes the calls to the tracer, the list of them, and the names of values. The kernel looks each entry
// of the list up among all symbols of the module when it loads it.
func withoutTrace(ko []byte) ([]byte, error) {
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return nil, fmt.Errorf("strip module: %w", err)
	}
	var names []string
	for _, name := range slices.Concat(callLists, []string{valueNames}) {
		names = append(names, name, ".rela"+name)
	}
	if f.Machine == elf.EM_X86_64 && f.Section(callLists[0]) != nil {
		if ko, err = idleCalls(ko, f); err != nil {
			return nil, fmt.Errorf("strip calls of module: %w", err)
		}
	}
	return withoutSections(ko, names...)
}

// idleCalls returns the module with idle instructions in place of the calls.
func idleCalls(ko []byte, f *elf.File) ([]byte, error) {
	symbols, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("read symbols: %w", err)
	}
	listed, err := listedCalls(f, symbols)
	if err != nil {
		return nil, err
	}
	out := bytes.Clone(ko)
	for _, s := range f.Sections {
		if s.Type != elf.SHT_RELA || int(s.Info) >= len(f.Sections) {
			continue
		}
		code := f.Sections[s.Info]
		err := eachRelocation(s, func(n int, r elf.Rela64) error {
			at := place{int(s.Info), r.Off - 1} // behind the operation's byte
			symbol, known := symbolOf(symbols, r)
			if !listed[at] || !known || symbol.Name != tracer {
				return nil
			}
			delete(listed, at)
			call, err := bytesOf(out, code, at.offset)
			if err != nil {
				return err
			}
			copy(call, idle[:])
			entry := out[s.Offset+uint64(n*relocation)+relocationType:]
			binary.LittleEndian.PutUint32(entry, uint32(elf.R_X86_64_NONE))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for at := range listed {
		return nil, fmt.Errorf("%s+%#x: no call of %s is there", f.Sections[at.section].Name, at.offset, tracer)
	}
	return out, nil
}

// bytesOf returns the call at an offset of a section, as a part of the module file.
func bytesOf(ko []byte, code *elf.Section, offset uint64) ([]byte, error) {
	size := uint64(len(idle))
	if code.Type == elf.SHT_NOBITS || offset > code.FileSize || code.FileSize-offset < size ||
		code.Offset > uint64(len(ko)) || uint64(len(ko))-code.Offset < offset+size || ko[code.Offset+offset] != 0xe8 {
		return nil, fmt.Errorf("%s+%#x: it is no call", code.Name, offset)
	}
	return ko[code.Offset+offset:][:size], nil
}

// listedCalls returns the calls in the list.
func listedCalls(f *elf.File, symbols []elf.Symbol) (map[place]bool, error) {
	list := f.Section(".rela" + callLists[0])
	if list == nil {
		return nil, nil // it has none
	}
	calls := map[place]bool{}
	err := eachRelocation(list, func(_ int, r elf.Rela64) error {
		symbol, known := symbolOf(symbols, r)
		if !known || int(symbol.Section) >= len(f.Sections) {
			return errors.New("an entry of the list of calls names no section")
		}
		calls[place{int(symbol.Section), symbol.Value + uint64(r.Addend)}] = true
		return nil
	})
	return calls, err
}

// eachRelocation calls one with each entry of a relocation section, and its number.
func eachRelocation(s *elf.Section, one func(n int, r elf.Rela64) error) error {
	data, err := s.Data()
	if err != nil {
		return fmt.Errorf("read section %s: %w", s.Name, err)
	}
	for n := range len(data) / relocation {
		entry := data[n*relocation:]
		r := elf.Rela64{Off: binary.LittleEndian.Uint64(entry), Info: binary.LittleEndian.Uint64(entry[8:]),
			Addend: int64(binary.LittleEndian.Uint64(entry[16:]))}
		if err := one(n, r); err != nil {
			return err
		}
	}
	return nil
}

// symbolOf returns the symbol of a relocation. elf.File.Symbols leaves out the first symbol, which is none.
func symbolOf(symbols []elf.Symbol, r elf.Rela64) (elf.Symbol, bool) {
	n := int(elf.R_SYM64(r.Info)) - 1
	if n < 0 || n >= len(symbols) {
		return elf.Symbol{}, false
	}
	return symbols[n], true
}
