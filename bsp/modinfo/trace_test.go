package modinfo

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"strings"
	"testing"
)

// The code of traced: two functions that begin with a call of the tracer, and in the second one more call, of another
// function.
const (
	code       = "\xe8\x00\x00\x00\x00one." + "\xf3\x0f\x1e\xfa\xe8\x00\x00\x00\x00\xe8\x00\x00\x00\x00two"
	firstCall  = 0
	secondCall = 13
	otherCall  = 18
)

// traced is a module whose list of calls has these offsets of its code.
func traced(listed ...uint64) []byte {
	var symbols, list, calls bytes.Buffer
	for _, s := range []elf.Sym64{{}, {Info: byte(elf.STT_SECTION), Shndx: 1}, {Name: 1}, {Name: 12}} {
		_ = binary.Write(&symbols, binary.LittleEndian, s)
	}
	for i, at := range listed {
		_ = binary.Write(&list, binary.LittleEndian, elf.Rela64{Off: uint64(8 * i), Info: elf.R_INFO(1,
			uint32(elf.R_X86_64_64)), Addend: int64(at)})
	}
	for at, symbol := range map[uint64]uint32{firstCall: 2, secondCall: 2, otherCall: 3} {
		_ = binary.Write(&calls, binary.LittleEndian, elf.Rela64{Off: at + 1, Info: elf.R_INFO(symbol,
			uint32(elf.R_X86_64_PLT32)), Addend: -4})
	}
	return relocatable(
		section{name: ".text", data: code},
		section{name: ".rela.text", data: calls.String(), kind: elf.SHT_RELA, link: 5, about: 1},
		section{name: callLists[0], data: strings.Repeat("\x00", 8*len(listed))},
		section{name: ".rela" + callLists[0], data: list.String(), kind: elf.SHT_RELA, link: 5, about: 3},
		section{name: ".symtab", data: symbols.String(), kind: elf.SHT_SYMTAB, link: 6},
		section{name: ".strtab", data: "\x00__fentry__\x00other\x00", kind: elf.SHT_STRTAB},
		section{name: valueNames, data: "names of values"},
	)
}

// TestStripTrace: the calls in the list become idle, the others stay, and the lists are empty.
func TestStripTrace(t *testing.T) {
	got, err := Strip(traced(firstCall, secondCall), []string{StripTrace})
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	const want = "\x0f\x1f\x44\x00\x00one." + "\xf3\x0f\x1e\xfa\x0f\x1f\x44\x00\x00\xe8\x00\x00\x00\x00two"
	if text, err := f.Section(".text").Data(); string(text) != want {
		t.Errorf("code %q, %v; want %q", text, err, want)
	}
	err = eachRelocation(f.Section(".rela.text"), func(_ int, r elf.Rela64) error {
		kind := elf.R_X86_64_NONE
		if r.Off == otherCall+1 {
			kind = elf.R_X86_64_PLT32
		}
		if elf.R_X86_64(elf.R_TYPE64(r.Info)) != kind {
			t.Errorf("relocation of %#x is %v, want %v", r.Off, elf.R_X86_64(elf.R_TYPE64(r.Info)), kind)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for _, name := range []string{callLists[0], ".rela" + callLists[0], valueNames} {
		if s := f.Section(name); s == nil || s.Size != 0 {
			t.Errorf("section %s is %+v, want it empty", name, s)
		}
	}
	if again, err := Strip(got, []string{StripTrace}); err != nil || !bytes.Equal(again, got) {
		t.Errorf("stripping twice changes the module: %v", err)
	}
}

// TestStripTraceRefuses: a list that does not agree with the code is an error, not a module that calls into nowhere.
func TestStripTraceRefuses(t *testing.T) {
	for what, ko := range map[string][]byte{
		"a call of another function": traced(firstCall, otherCall),
		"no call":                    traced(firstCall, secondCall+1),
		"beyond the code":            traced(1 << 40),
	} {
		if _, err := Strip(ko, []string{StripTrace}); err == nil {
			t.Errorf("%s: stripped", what)
		}
	}
	broken := bytes.Replace(traced(firstCall), []byte(code[:9]), []byte("\xe9\x00\x00\x00\x00one."), 1)
	if _, err := Strip(broken, []string{StripTrace}); err == nil || !strings.Contains(err.Error(), "it is no call") {
		t.Errorf("a jump in place of the call: %v", err)
	}
}
