package bootscript

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
	"resinos/mounts/testenv"
)

// stubs are the commands of the bootloaders as functions of bash, whose grammar the scripts keep within. The device
// around them is in variables: loads_A and loads_B (all, nothing, or only the kernel), writes, and in_NAME for what the
// file has. What would be written is kept in out_NAME.
const stubs = `
names="fault slot tries try"
has() { case $1 in *gpt2*|*"0:2"*) what=$loads_A;; *) what=$loads_B;; esac; }
import() { for n in $names; do v=in_$n; if [ -n "${!v}" ]; then eval "$n=${!v}"; else $1 $n; fi; done; }
begin() { for n in $names; do v=in_$n; eval "out_$n=${!v}"; done; }
export_() { [ $writes = yes ] || return 1; for n in $names; do eval "out_$n=\$$n"; done; }
keep() { :; }
started() { echo "boot $*; slot=$out_slot try=$out_try tries=$out_tries fault=$out_fault"; exit 0; }
sleep() { echo "boot; slot=$out_slot try=$out_try tries=$out_tries fault=$out_fault"; exit 0; }
`

const grubStubs = stubs + `
root=hd0,gpt1
set() { eval "${1%%=*}=\"${1#*=}\""; }
[() {
	if builtin [ "$1" = -f ]; then
		case $2 in *grubenv) return 0;; esac
		has "$2"; builtin [ "$what" != nothing ]
	else
		builtin [ "$@"
	fi
}
regexp() { disk=hd0; }
load_env() { import keep; }
save_env() { export_; }
probe() { uuid=u; }
linux() { line="$*"; has "$1"; builtin [ "$what" != nothing ]; }
initrd() { has "$1"; builtin [ "$what" = all ]; }
boot() { started $line; }
`

const ubootStubs = stubs + `
devtype=virtio devnum=0 kernel_addr_r=k ramdisk_addr_r=r fdtcontroladdr=f
setenv() { n=$1; shift; eval "$n=\"$*\""; }
test() {
	if builtin test "$1" = -e; then
		has "$3 $4 $2"; builtin test "$what" != nothing
	else
		builtin test "$@"
	fi
}
load() {
	case "$*" in
	*resinos.env*) filesize=1f8;;
	*initramfs*) has "$2"; builtin test "$what" = all;;
	*) has "$2"; builtin test "$what" != nothing;;
	esac
}
env() { if builtin test $1 = import; then import unset; else builtin test "$3 $4" = "-s 1f8"; fi; }
fatwrite() { builtin test "$5" = 1f8 && export_; }
part() { uuid=u; }
booti() { started "$bootargs"; }
`

// TestScriptsFollowTheModel runs both scripts in bash, with every state of the variables on every kind of device, and
// compares what is booted and what is written with the model.
func TestScriptsFollowTheModel(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		testenv.Lacking(t, "bash, which runs the scripts")
	}
	for _, kind := range bootvars.Bootloaders() {
		t.Run(string(kind), func(t *testing.T) {
			script := Script{Kind: kind, Arch: "arm64", Variant: "production", PartitionA: 2, PartitionB: 3}
			text, err := script.fill(map[bootvars.Bootloader]string{bootvars.Grub: grubTemplate,
				bootvars.UBoot: ubootTemplate}[kind])
			if err != nil {
				t.Fatal(err)
			}
			head := map[bootvars.Bootloader]string{bootvars.Grub: grubStubs, bootvars.UBoot: ubootStubs}[kind]
			cases, want := allCases()
			var all strings.Builder
			fmt.Fprintf(&all, "%s\nstory() {\n%s\n}\n", head, text)
			for _, one := range cases {
				fmt.Fprintf(&all, "( %s; begin; story )\n", one)
			}
			run := exec.CommandContext(t.Context(), "bash")
			run.Stdin = strings.NewReader(all.String())
			out, err := run.Output()
			if err != nil {
				t.Fatalf("bash: %v", err)
			}
			got := bootLines(string(out))
			if len(got) != len(want) {
				t.Fatalf("%d boots of %d", len(got), len(want))
			}
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("%s: %s, the model says %s", cases[i], got[i], want[i])
				}
			}
		})
	}
}

// allCases returns the assignments that make each case, and what the model says of it.
func allCases() (cases, want []string) {
	for _, v := range allVariables() {
		for _, writes := range []bool{true, false} {
			for _, a := range []string{"all", "nothing", "kernel"} {
				for _, b := range []string{"all", "nothing", "kernel"} {
					cases = append(cases,
						fmt.Sprintf("in_slot=%s in_try=%s in_tries=%s in_fault=%s writes=%s loads_A=%s loads_B=%s",
							v.Slot, v.Try, v.Tries, v.Fault, map[bool]string{true: "yes", false: "no"}[writes], a, b))
					booted := v.Boot(bootvars.Firmware{Writes: writes,
						Loads: map[slot.Name]bool{slot.A: a == "all", slot.B: b == "all"}})
					want = append(want, fmt.Sprintf("boot %s update=%v trial=%v; slot=%s try=%s tries=%s fault=%s",
						booted.Slot, booted.Update, booted.Trial,
						booted.After.Slot, booted.After.Try, booted.After.Tries, booted.After.Fault))
				}
			}
		}
	}
	return cases, want
}

func allVariables() (all []bootvars.Variables) {
	var rows [][]string
	for _, row := range bootvars.Table() {
		rows = append(rows, row.Values)
	}
	for _, name := range rows[0] {
		for _, try := range rows[1] {
			for _, tries := range rows[2] {
				for _, fault := range rows[3] {
					all = append(all, bootvars.Variables{Slot: slot.Name(name), Try: slot.Name(try), Tries: tries,
						Fault: bootvars.Fault(fault)})
				}
			}
		}
	}
	return all
}

var bootLine = regexp.MustCompile(`(?m)^boot(.*); (slot=.*)$`)

// bootLines finds what was booted: the slot and the word for the device, and the variables.
func bootLines(out string) (lines []string) {
	for _, found := range bootLine.FindAllStringSubmatch(out, -1) {
		words := strings.Fields(found[1])
		use, update, trial := "", false, false
		for _, word := range words {
			if name, is := strings.CutPrefix(word, "resinos.slot="); is {
				use = name
			}
			update = update || word == bootvars.UpdateWord
			trial = trial || word == bootvars.TrialWord
		}
		lines = append(lines, fmt.Sprintf("boot %s update=%v trial=%v; %s", use, update || use == "" &&
			wantsUpdate(found[2]),
			trial, found[2]))
	}
	return lines
}

// wantsUpdate: a boot that did not come about shows no command line.
func wantsUpdate(variables string) bool { return !strings.Contains(variables, "try=none") }

// TestOldVariables: a device whose file is that of the first images boots.
func TestOldVariables(t *testing.T) {
	for _, kind := range bootvars.Bootloaders() {
		script := Script{Kind: kind, Arch: "arm64", Variant: "production", PartitionA: 2, PartitionB: 3}
		text, err := script.fill(map[bootvars.Bootloader]string{bootvars.Grub: grubTemplate,
			bootvars.UBoot: ubootTemplate}[kind])
		if err != nil {
			t.Fatal(err)
		}
		head := map[bootvars.Bootloader]string{bootvars.Grub: grubStubs, bootvars.UBoot: ubootStubs}[kind]
		run := exec.CommandContext(t.Context(), "bash")
		run.Stdin = strings.NewReader("in_slot=B writes=yes loads_A=all loads_B=all\n" + head + "begin\n" + text)
		out, err := run.Output()
		if got := bootLines(string(out)); err != nil || len(got) != 1 ||
			!strings.HasPrefix(got[0], "boot B update=false") {
			t.Errorf("%s: %q, %v", kind, got, err)
		}
	}
}
