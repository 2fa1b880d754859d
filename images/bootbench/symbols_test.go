package bootbench

import (
	"debug/elf"
	"debug/gosym"
	"fmt"
	"io/fs"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// kernelHalf is where the kernel's addresses begin on amd64.
const kernelHalf = 0xffff_8000_0000_0000

// A symbol is a function of the kernel.
type symbol struct {
	address uint64
	name    string
}

// symbols are sorted by address.
type symbols []symbol

// parseSymbol reads a line of /proc/kallsyms.
func parseSymbol(line string) (symbol, bool) {
	words := strings.Fields(line)
	if len(words) < 3 || len(words[0]) != 16 {
		return symbol{}, false
	}
	address, err := strconv.ParseUint(words[0], 16, 64)
	return symbol{address, strings.Join(words[2:], " ")}, err == nil && address >= kernelHalf
}

// find returns the function at an address; empty: there is none.
func (s symbols) find(address uint64) string {
	i := sort.Search(len(s), func(i int) bool { return s[i].address > address })
	if i == 0 {
		return ""
	}
	return s[i-1].name
}

// A program is a file whose code may be executed: a program of the device, or a shared library.
type program struct {
	name  string
	moves bool   // its code may be anywhere
	start uint64 // address of the code in the file
	code  string
	table *gosym.Table // of Go's programs
}

// openPrograms reads all programs and shared libraries below dir.
func openPrograms(dir string) (out []*program, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := elf.Open(path)
		if err != nil {
			return nil //nolint:nilerr // not a program
		}
		defer f.Close()
		p, err := newProgram(filepath.Base(path), f)
		if p != nil {
			out = append(out, p)
		}
		return err
	})
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("no programs in %s", dir)
	}
	return out, err
}

func newProgram(name string, f *elf.File) (*program, error) {
	p := &program{name: name, moves: f.Type == elf.ET_DYN}
	for _, part := range f.Progs {
		if part.Type != elf.PT_LOAD || part.Flags&elf.PF_X == 0 {
			continue
		}
		code := make([]byte, part.Filesz)
		if _, err := part.ReadAt(code, 0); err != nil {
			return nil, fmt.Errorf("read the code of %s: %w", name, err)
		}
		p.start, p.code = part.Vaddr, string(code)
	}
	if p.code == "" {
		return nil, nil
	}
	table, text := f.Section(".gopclntab"), f.Section(".text")
	if table == nil || text == nil {
		return p, nil
	}
	data, err := table.Data()
	if err == nil {
		p.table, err = gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
	}
	if err != nil {
		return nil, fmt.Errorf("read the functions of %s: %w", name, err)
	}
	return p, nil
}

// has reports whether the program has this code, at this address or, if it moves, at this place of a page.
func (p *program) has(address uint64, code string) bool {
	_, found := p.offset(address, code)
	return found
}

func (p *program) offset(address uint64, code string) (uint64, bool) {
	if !p.moves {
		at := address - p.start
		return at, at < uint64(len(p.code)) && strings.HasPrefix(p.code[at:], code)
	}
	if len(code) < codeBytes { // too little to go by
		return 0, false
	}
	const page = 4096
	for at := (address - p.start) % page; at < uint64(len(p.code)); at += page {
		if strings.HasPrefix(p.code[at:], code) {
			return at, true
		}
	}
	return 0, false
}

// function returns the name of the function at an address of a program that does not move.
func (p *program) function(address uint64) string {
	if p.table == nil {
		return ""
	}
	if f := p.table.PCToFunc(address); f != nil {
		return f.Name
	}
	return ""
}

func TestSymbols(t *testing.T) {
	var all symbols
	for line := range strings.Lines("ffffffff81000000 T _text\nffffffff81000040 t do_one\tuse\nffffffffc0001000 t " +
		"ext4_read\t[ext4]\n" +
		"0000000000000000 T hidden\n[    1.0] a message\n") {
		if s, ok := parseSymbol(line); ok {
			all = append(all, s)
		}
	}
	for address, want := range map[uint64]string{
		0xffffffff81000000: "_text", 0xffffffff8100003f: "_text", 0xffffffff81000100: "do_one use",
		0xffffffffc0001001: "ext4_read [ext4]", 0xffffffff80000000: "",
	} {
		if got := all.find(address); got != want {
			t.Errorf("%#x: %q, want %q", address, got, want)
		}
	}
}

// TestProgram: the test itself is the program that is looked at.
func TestProgram(t *testing.T) {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := newProgram("self", f)
	if err != nil {
		t.Fatal(err)
	}
	at := p.table.LookupFunc("resinos/images/bootbench.parseSymbol").Entry
	code := p.code[at-p.start:][:codeBytes]
	if !p.has(at, code) || p.function(at) != "resinos/images/bootbench.parseSymbol" {
		t.Errorf("parseSymbol at %#x is %q", at, p.function(at))
	}
	if p.has(at, strings.Repeat("?", codeBytes)) || p.has(p.start-1, code) || p.has(p.start+uint64(len(p.code)), code) {
		t.Error("has code that it has not")
	}
	moved := *p
	moved.moves = true
	if !moved.has(at+0x7f00_0000_0000, code) || moved.has(at+8, code) {
		t.Error("a program that moves is recognised by its place in a page")
	}
}
