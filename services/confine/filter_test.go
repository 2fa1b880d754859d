package confine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/mounts/testenv"
	"resinos/services/spec"
)

// TestSeccompDefault: each attack gets another answer from the kernel without the profile.
func TestSeccompDefault(t *testing.T) {
	for _, name := range []string{"open-tree", "unshare", "clone-newns", "personality", "reboot", "clock", "ptrace",
		"keyctl", "bpf", "module", "sethostname", "vsock"} {
		plain, filtered := scene(t, Launch{}, name), scene(t, box(spec.Confinement{Seccomp: "default"}), name)
		if plain == "EPERM" || filtered != "EPERM" {
			t.Errorf("%s: %q without, %q with the profile", name, plain, filtered)
		}
	}
	mount := box(spec.Confinement{MountNamespace: true})
	want(t, "mount", scene(t, mount, "mount"), "done")
	mount.Confinement.Seccomp = "default"
	want(t, "mount with the profile", scene(t, mount, "mount"), "EPERM")
	for _, name := range []string{"linux", "fork", "daemon"} {
		want(t, name, scene(t, box(spec.Confinement{Seccomp: "default"}), name), "done")
	}
	want(t, "clone3", scene(t, box(spec.Confinement{Seccomp: "default"}), "clone3"), "function not implemented")
	want(t, "foreign", scene(t, box(spec.Confinement{Seccomp: "default"}), "foreign"),
		fmt.Sprintf(" [%d]", 128+int(unix.SIGSYS)))
}

func TestSeccompStrict(t *testing.T) {
	strict := box(spec.Confinement{Seccomp: "strict"})
	want(t, "a Go network daemon", scene(t, strict, "daemon"), "done")
	for _, name := range []string{"mount", "fork", "unshare", "ptrace", "unlink", "chmod", "packet", "setuid"} {
		if plain := scene(t, box(spec.Confinement{MountNamespace: true}), name); plain == "EPERM" {
			t.Errorf("%s is EPERM without the profile", name)
		}
		want(t, name, scene(t, strict, name), "EPERM")
	}
	strict.Command = []string{busybox, "cat", "/etc/hostname"}
	if out, code := (start{Launch: strict}).run(t); code != 0 {
		t.Errorf("busybox cat: %d %s", code, out)
	}
	out, _ := shell(t, box(spec.Confinement{Seccomp: "strict"}), "read line < /proc/self/stat; echo shell")
	want(t, "busybox sh", out, "shell")
}

// TestSeccompPrivileges: with CAP_SYS_ADMIN a filter needs no no-new-privileges; without, it brings it.
func TestSeccompPrivileges(t *testing.T) {
	for _, c := range []struct {
		l    Launch
		want string
	}{
		{box(spec.Confinement{Seccomp: "default"}), "0 2"},
		{Launch{User: "7", Group: "7", Confinement: spec.Confinement{Seccomp: "default"}}, "1 2"},
		{box(spec.Confinement{Seccomp: "default", Bounded: true}), "1 2"},
		{Launch{}, "0 0"},
	} {
		want(t, "state", status(t, c.l, "NoNewPrivs")+" "+status(t, c.l, "Seccomp"), c.want)
	}
	if out, code := shell(t, box(spec.Confinement{Seccomp: "lax"}), "true"); code != exitSeccomp ||
		!strings.Contains(out, "find seccomp profile lax: there are: configd daemon default devd logd netd splash "+
			"ssh strict") {
		t.Errorf("%d %s", code, out)
	}
}

// TestProfileNames: a call that no architecture has is a slip of the pen, but for the few that only others have.
func TestProfileNames(t *testing.T) {
	known := map[string]bool{}
	for _, name := range []string{"umount", "stime", "clock_settime64", "clock_adjtime64", "vm86", "vm86old",
		"nfsservctl", "open_tree_attr"} {
		known[name] = true
	}
	for _, table := range tables(t) {
		for _, c := range table {
			known[c.name] = true
		}
	}
	for _, name := range profileNames() {
		p, err := loadProfile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Rules {
			for _, call := range r.Calls {
				if !known[call] {
					t.Errorf("%s: no call %s", name, call)
				}
			}
			if r.Why == "" || len(r.Calls) == 0 {
				t.Errorf("%s: a rule without a why or a call: %+v", name, r)
			}
		}
	}
}

// TestFilterMeansProfile runs every program, of both architectures, against what its profile says of every call.
func TestFilterMeansProfile(t *testing.T) {
	audit := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}
	values := []uint32{0, 1, 2, 3, 8, 10, 16, 17, 38, 40, 0x5401, 0x5412, 0x541C, 0x8912, 0x10000, 0x20000, 0x20008,
		0x10000000, 0x40000000, 0xFFFFFFFF}
	for arch, table := range tables(t) {
		for _, name := range profileNames() {
			p, err := loadProfile(name)
			if err != nil {
				t.Fatal(err)
			}
			program, err := p.assemble(audit[arch], table, false)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s on %s: %d instructions", name, arch, len(program))
			for _, call := range append(slices.Clone(table), callNumber{"no_such_call", 1000}) {
				for _, v := range values {
					for arg := range uint32(6) {
						got := interpret(t, program, audit[arch], call.number, arg, v)
						if want := p.says(t, call.name, arg, v); got != want {
							t.Fatalf("%s on %s: %s with argument %d = %#x gives %#x, want %#x", name, arch, call.name,
								arg, v, got, want)
						}
					}
				}
			}
			for _, c := range [][2]uint32{{unix.AUDIT_ARCH_I386, 1}, {audit[arch], x32 | 1}} {
				if got := interpret(t, program, c[0], c[1], 0, 0); got != unix.SECCOMP_RET_KILL_PROCESS {
					t.Errorf("%s on %s: foreign call %#x gives %#x", name, arch, c, got)
				}
			}
			testenv.Golden(t, name+"-"+arch+".golden", printed(program))
		}
	}
}

// says is the profile read word by word, for one call whose other arguments are 0.
func (p *profile) says(t *testing.T, call string, arg, value uint32) uint32 {
	action := p.Otherwise
	for _, r := range p.Rules {
		seen := uint32(0)
		if r.Argument == arg {
			seen = value
		}
		conditional := len(r.Equals) > 0 || r.AnyOf != 0
		if slices.Contains(r.Calls, call) && (!conditional || seen&r.AnyOf != 0 || slices.Contains(r.Equals, seen)) {
			action = r.Action
			break
		}
	}
	code, err := action.code(false)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// interpret is the kernel's BPF machine, as far as our programs go.
func interpret(t *testing.T, program []unix.SockFilter, arch, number, arg, value uint32) uint32 {
	var a uint32
	for pc := 0; pc < len(program); pc++ {
		in := program[pc]
		yes := false
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			switch in.K {
			case atNumber:
				a = number
			case atArch:
				a = arch
			case atArgument + 8*arg:
				a = value
			default:
				a = 0
			}
			continue
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		case unix.BPF_JMP | unix.BPF_K | unix.BPF_JEQ:
			yes = a == in.K
		case unix.BPF_JMP | unix.BPF_K | unix.BPF_JGE:
			yes = a >= in.K
		case unix.BPF_JMP | unix.BPF_K | unix.BPF_JSET:
			yes = a&in.K != 0
		default:
			t.Fatalf("instruction %d: %+v", pc, in)
		}
		if yes {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	t.Fatal("the program runs off its end")
	return 0
}

// printed is a program as text, an instruction a line.
func printed(program []unix.SockFilter) string {
	var b strings.Builder
	for i, in := range program {
		fmt.Fprintf(&b, "%3d %#04x %3d %3d %#x\n", i, in.Code, in.Jt, in.Jf, in.K)
	}
	return b.String()
}
