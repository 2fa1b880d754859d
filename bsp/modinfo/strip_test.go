package modinfo

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"strings"
	"testing"
)

// A section is one of a module that a test makes.
type section struct {
	name  string
	data  string
	kind  elf.SectionType // 0: PROGBITS
	link  int
	about int // the section that relocations change
}

// relocatable makes a relocatable ELF64 file with these sections, and that of their names.
func relocatable(sections ...section) []byte {
	sections = append(append([]section{{}}, sections...), section{name: ".shstrtab", kind: elf.SHT_STRTAB})
	names := []byte{0}
	offsets := make([]uint32, len(sections))
	for i, s := range sections[1:] {
		offsets[i+1] = uint32(len(names))
		names = append(append(names, s.name...), 0)
	}
	sections[len(sections)-1].data = string(names)
	out := make([]byte, 64)
	copy(out, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(out[16:], uint16(elf.ET_REL))
	le.PutUint16(out[18:], uint16(elf.EM_X86_64))
	le.PutUint32(out[20:], 1)
	le.PutUint16(out[52:], 64) // of this header
	le.PutUint16(out[58:], 64) // of a section's header
	le.PutUint16(out[60:], uint16(len(sections)))
	le.PutUint16(out[62:], uint16(len(sections)-1))
	var headers []byte
	for i, s := range sections {
		h := make([]byte, 64)
		if i > 0 {
			out = append(out, make([]byte, padding(len(out), 8))...)
			le.PutUint32(h, offsets[i])
			le.PutUint32(h[4:], uint32(max(s.kind, elf.SHT_PROGBITS)))
			le.PutUint64(h[24:], uint64(len(out)))
			le.PutUint64(h[32:], uint64(len(s.data)))
			le.PutUint32(h[40:], uint32(s.link))
			le.PutUint32(h[44:], uint32(s.about))
			le.PutUint64(h[48:], 8)
			out = append(out, s.data...)
		}
		headers = append(headers, h...)
	}
	out = append(out, make([]byte, padding(len(out), 8))...)
	le.PutUint64(out[40:], uint64(len(out)))
	return append(out, headers...)
}

// withTypes is a module with .BTF between the two sections that stay.
func withTypes() []byte {
	return relocatable(section{name: ".modinfo", data: "license=GPL\x00name=x\x00"},
		section{name: ".BTF", data: "types, types, types"}, section{name: ".text", data: "code"})
}

// signed appends a signature of n bytes.
func signed(ko []byte, n int) []byte {
	trailer := make([]byte, 12)
	binary.BigEndian.PutUint32(trailer[8:], uint32(n))
	return append(append(append(bytes.Clone(ko), bytes.Repeat([]byte{7}, n)...), trailer...), signatureEnd...)
}

func TestStrip(t *testing.T) {
	plain := withTypes()
	if got, err := Strip(signed(plain, 300), []string{StripSignature}); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("without its signature the module has %d bytes, %v; want %d", len(got), err, len(plain))
	}
	got, err := Strip(signed(plain, 300), []string{StripSignature, StripBTF})
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", "license=GPL\x00name=x\x00", "", "code"} {
		if text, err := f.Sections[i].Data(); string(text) != want || (err != nil && want != "") {
			t.Errorf("section %s is %q, %v; want %q", f.Sections[i].Name, text, err, want)
		}
	}
	if m, err := Parse(got); err != nil || m.Name != "x" {
		t.Errorf("the stripped module reads as %+v, %v", m, err)
	}
	if again, err := Strip(got, []string{StripSignature, StripBTF}); err != nil || !bytes.Equal(again, got) {
		t.Errorf("stripping twice changes the module: %v", err)
	}
}

func TestStripDamaged(t *testing.T) {
	for name, ko := range map[string][]byte{
		"no ELF":             []byte("no module"),
		"only an end":        []byte(signatureEnd),
		"signature too long": append(append(bytes.Repeat([]byte{0}, 20), 0, 0, 9, 9), signatureEnd...),
		"section table beyond": func() []byte {
			m := withTypes()
			binary.LittleEndian.PutUint64(m[40:],
				1<<40)
			return m
		}(),
	} {
		if got, err := Strip(ko, []string{StripSignature, StripBTF}); err == nil {
			t.Errorf("%s: stripped to %d bytes", name, len(got))
		}
	}
}

func FuzzStrip(f *testing.F) {
	f.Add(withTypes())
	f.Add(signed(withTypes(), 20))
	f.Add(traced(firstCall, secondCall))
	f.Fuzz(func(t *testing.T, ko []byte) {
		if got, err := Strip(ko, []string{StripSignature, StripTrace, StripBTF}); err == nil &&
			len(got) > 2*len(ko)+1<<20 {
			t.Errorf("%d bytes became %d", len(ko), len(got))
		}
	})
}

// TestStripUnwind: the tables by which the kernel walks a stack are empty, with the relocations that filled them.
func TestStripUnwind(t *testing.T) {
	ko := relocatable(section{name: ".text", data: "code"}, section{name: ".orc_unwind", data: "how"},
		section{name: ".orc_unwind_ip", data: "where"},
		section{name: ".rela.orc_unwind_ip", data: strings.Repeat("r", 24), kind: elf.SHT_RELA, about: 3})
	for _, parts := range [][]string{{StripBTF}, {StripUnwind}} {
		got, err := Strip(ko, parts)
		if err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(got))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range f.Sections {
			if gone := strings.Contains(s.Name, "orc") && parts[0] == StripUnwind; gone != (s.Size == 0) &&
				s.Name != "" {
				t.Errorf("without %v section %s has %d bytes", parts, s.Name, s.Size)
			}
		}
	}
}
