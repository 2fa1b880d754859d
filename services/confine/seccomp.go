package confine

import (
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"github.com/BurntSushi/toml"
	"golang.org/x/sys/unix"
)

// profiles holds the seccomp profiles, NAME.toml each; one is decoded only when a service asks for it.
//
//go:embed profiles/*.toml
var profiles embed.FS

// profile is a decoded seccomp profile. Of its rules the first that matches a call decides.
type profile struct {
	Base      string `toml:"base"`      // the profile whose rules follow
	Otherwise action `toml:"otherwise"` // for calls that no rule matches
	Rules     []rule `toml:"rule"`
}

// rule is what happens to the named calls if one of its conditions on one argument holds. A filter can only look at
// arguments of 32 bits, and not at memory that a pointer refers to. A name that this architecture lacks is skipped.
type rule struct {
	Why      string   `toml:"why"` // for people
	Action   action   `toml:"action"`
	Calls    []string `toml:"calls"`
	Argument uint32   `toml:"argument"`
	Equals   []uint32 `toml:"equals"` // the argument is one of these
	AnyOf    uint32   `toml:"any-of"` // the argument has one of these bits
}

// action is what the kernel does with a call, as a profile names it.
type action string

// actions are the names and the values for the kernel.
var actions = [...]struct {
	word action
	code uint32
}{
	{"allow", unix.SECCOMP_RET_ALLOW},
	{"deny", unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
	// as an older kernel would answer, so that the program tries another way
	{"absent", unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
	{"kill", unix.SECCOMP_RET_KILL_PROCESS},
}

// launchOnly is the action for what a launch must do behind the filter: it is denied to a program that confines itself.
const launchOnly action = "launch"

func (a action) code(already bool) (uint32, error) {
	switch {
	case a == launchOnly && already:
		a = "deny"
	case a == launchOnly:
		a = "allow"
	}
	for _, known := range actions {
		if known.word == a {
			return known.code, nil
		}
	}
	return 0, fmt.Errorf("no action %q", a)
}

// callNumber is one line of the table of an architecture.
type callNumber struct {
	name   string
	number uint32
}

// filter installs the profile for this thread. The kernel demands no-new-privileges or CAP_SYS_ADMIN for that: a
// service with the capability can do without no-new-privileges; one without it gets no-new-privileges even if its file
// does not set it.
func (s *self) filter() error {
	if s.Confinement.Seccomp == "" {
		return nil
	}
	p, err := loadProfile(s.Confinement.Seccomp)
	if err != nil {
		return err
	}
	program, err := p.assemble(auditArch, callNumbers[:], s.already)
	if err != nil {
		return fmt.Errorf("assemble seccomp profile %s: %w", s.Confinement.Seccomp, err)
	}
	threads := uintptr(0)
	if s.already {
		threads = unix.SECCOMP_FILTER_FLAG_TSYNC
	}
	err = install(program, threads)
	if err == unix.EACCES {
		if err := s.setNoNewPrivileges(); err != nil {
			return err
		}
		err = install(program, threads)
	}
	if err != nil {
		return fmt.Errorf("install seccomp profile %s: %w", s.Confinement.Seccomp, err)
	}
	return nil
}

func install(program []unix.SockFilter, flags uintptr) error {
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	err := raw(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	return err
}

// loadProfile decodes the profile with that name, and those that it is based on.
func loadProfile(name string) (profile, error) {
	p, err := decodeProfile(name)
	for base := p.Base; err == nil && base != ""; {
		var below profile
		below, err = decodeProfile(base)
		p.Rules, p.Otherwise, base = append(p.Rules, below.Rules...), cmp.Or(p.Otherwise, below.Otherwise), below.Base
	}
	return p, err
}

func decodeProfile(name string) (profile, error) {
	text, err := fs.ReadFile(profiles, "profiles/"+name+".toml")
	if err != nil {
		return profile{}, fmt.Errorf("find seccomp profile %s: there are: %s", name, strings.Join(profileNames(), " "))
	}
	var p profile
	md, err := toml.Decode(string(text), &p)
	if err != nil {
		return profile{}, fmt.Errorf("read seccomp profile %s: %w", name, err)
	}
	if unknown := md.Undecoded(); len(unknown) > 0 {
		return profile{}, fmt.Errorf("read seccomp profile %s: no such key %s", name, unknown[0])
	}
	return p, nil
}

func profileNames() []string {
	entries, err := profiles.ReadDir("profiles")
	if err != nil {
		panic("the profiles are embedded")
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".toml"))
	}
	return names
}

// Offsets in struct seccomp_data of what the filter loads (seccomp(2)); our architectures are little-endian, so the low
// half of an argument comes first.
//
//	0: number   4: architecture   8: instruction pointer   16 + 8 n: argument n
const (
	atNumber   = 0
	atArch     = 4
	atArgument = 16
)

// x32 is the first number of the x32 calls, which have x86-64's architecture and other arguments.
const x32 = 0x4000_0000

// maxChunk limits the calls that share one return: a jump of BPF reaches 255 instructions.
const maxChunk = 200

// assemble returns the BPF program of the profile: calls of a foreign architecture kill the process, then the rules
// follow in turn.
func (p *profile) assemble(arch uint32, table []callNumber, already bool) ([]unix.SockFilter, error) {
	otherwise, err := p.Otherwise.code(already)
	if err != nil {
		return nil, err
	}
	program := []unix.SockFilter{
		load(atArch),
		jump(unix.BPF_JEQ, arch, 1, 0),
		ret(unix.SECCOMP_RET_KILL_PROCESS),
		load(atNumber),
		jump(unix.BPF_JGE, x32, 0, 1),
		ret(unix.SECCOMP_RET_KILL_PROCESS),
	}
	for i, r := range p.Rules {
		code, err := r.Action.code(already)
		if err == nil && (r.Argument > 5 || len(r.Equals) > maxChunk) {
			err = fmt.Errorf("argument %d of 0 to 5, %d values of at most %d", r.Argument, len(r.Equals), maxChunk)
		}
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
		program = append(program, r.assemble(code, r.numbers(table))...)
	}
	program = append(program, ret(otherwise))
	if len(program) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("%d instructions, the kernel takes %d", len(program), unix.BPF_MAXINSNS)
	}
	return program, nil
}

// numbers returns the rule's calls on the architecture of the table, lowest first.
func (r *rule) numbers(table []callNumber) []uint32 {
	var all []uint32
	for _, c := range table {
		if slices.Contains(r.Calls, c.name) {
			all = append(all, c.number)
		}
	}
	return all
}

func (r *rule) assemble(code uint32, numbers []uint32) []unix.SockFilter {
	var program []unix.SockFilter
	if len(r.Equals) > 0 || r.AnyOf != 0 {
		test := r.condition(code)
		for _, n := range numbers {
			program = append(program, jump(unix.BPF_JEQ, n, 0, uint8(len(test))))
			program = append(program, test...)
		}
		return program
	}
	for chunk := range slices.Chunk(numbers, maxChunk) {
		program = append(program, oneOf(chunk, unix.BPF_JEQ, code)...)
	}
	return program
}

// condition checks the argument, returns the action if it matches, and otherwise loads the number of the call again.
func (r *rule) condition(code uint32) []unix.SockFilter {
	test := []unix.SockFilter{load(atArgument + 8*r.Argument)}
	if r.AnyOf != 0 {
		test = append(test, oneOf([]uint32{r.AnyOf}, unix.BPF_JSET, code)...)
	}
	if len(r.Equals) > 0 {
		test = append(test, oneOf(r.Equals, unix.BPF_JEQ, code)...)
	}
	return append(test, load(atNumber))
}

// oneOf returns code if the accumulator has that relation to one of the values:
//
//	jump v1 -> R; jump v2 -> R; … ; jump over R; R: return code
func oneOf(values []uint32, relation uint16, code uint32) []unix.SockFilter {
	var program []unix.SockFilter
	for i, v := range values {
		last := uint8(0)
		if i == len(values)-1 {
			last = 1
		}
		program = append(program, jump(relation, v, uint8(len(values)-1-i), last))
	}
	return append(program, ret(code))
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func jump(relation uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | relation, Jt: yes, Jf: no, K: k}
}

func ret(code uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: code}
}
