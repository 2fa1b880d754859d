package confine

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// capabilities are the names of capabilities(7) by number.
var capabilities = [...]string{
	unix.CAP_CHOWN:              "CAP_CHOWN",
	unix.CAP_DAC_OVERRIDE:       "CAP_DAC_OVERRIDE",
	unix.CAP_DAC_READ_SEARCH:    "CAP_DAC_READ_SEARCH",
	unix.CAP_FOWNER:             "CAP_FOWNER",
	unix.CAP_FSETID:             "CAP_FSETID",
	unix.CAP_KILL:               "CAP_KILL",
	unix.CAP_SETGID:             "CAP_SETGID",
	unix.CAP_SETUID:             "CAP_SETUID",
	unix.CAP_SETPCAP:            "CAP_SETPCAP",
	unix.CAP_LINUX_IMMUTABLE:    "CAP_LINUX_IMMUTABLE",
	unix.CAP_NET_BIND_SERVICE:   "CAP_NET_BIND_SERVICE",
	unix.CAP_NET_BROADCAST:      "CAP_NET_BROADCAST",
	unix.CAP_NET_ADMIN:          "CAP_NET_ADMIN",
	unix.CAP_NET_RAW:            "CAP_NET_RAW",
	unix.CAP_IPC_LOCK:           "CAP_IPC_LOCK",
	unix.CAP_IPC_OWNER:          "CAP_IPC_OWNER",
	unix.CAP_SYS_MODULE:         "CAP_SYS_MODULE",
	unix.CAP_SYS_RAWIO:          "CAP_SYS_RAWIO",
	unix.CAP_SYS_CHROOT:         "CAP_SYS_CHROOT",
	unix.CAP_SYS_PTRACE:         "CAP_SYS_PTRACE",
	unix.CAP_SYS_PACCT:          "CAP_SYS_PACCT",
	unix.CAP_SYS_ADMIN:          "CAP_SYS_ADMIN",
	unix.CAP_SYS_BOOT:           "CAP_SYS_BOOT",
	unix.CAP_SYS_NICE:           "CAP_SYS_NICE",
	unix.CAP_SYS_RESOURCE:       "CAP_SYS_RESOURCE",
	unix.CAP_SYS_TIME:           "CAP_SYS_TIME",
	unix.CAP_SYS_TTY_CONFIG:     "CAP_SYS_TTY_CONFIG",
	unix.CAP_MKNOD:              "CAP_MKNOD",
	unix.CAP_LEASE:              "CAP_LEASE",
	unix.CAP_AUDIT_WRITE:        "CAP_AUDIT_WRITE",
	unix.CAP_AUDIT_CONTROL:      "CAP_AUDIT_CONTROL",
	unix.CAP_SETFCAP:            "CAP_SETFCAP",
	unix.CAP_MAC_OVERRIDE:       "CAP_MAC_OVERRIDE",
	unix.CAP_MAC_ADMIN:          "CAP_MAC_ADMIN",
	unix.CAP_SYSLOG:             "CAP_SYSLOG",
	unix.CAP_WAKE_ALARM:         "CAP_WAKE_ALARM",
	unix.CAP_BLOCK_SUSPEND:      "CAP_BLOCK_SUSPEND",
	unix.CAP_AUDIT_READ:         "CAP_AUDIT_READ",
	unix.CAP_PERFMON:            "CAP_PERFMON",
	unix.CAP_BPF:                "CAP_BPF",
	unix.CAP_CHECKPOINT_RESTORE: "CAP_CHECKPOINT_RESTORE",
}

// capSet is a set of capabilities, one bit each.
type capSet uint64

// capabilitySet returns the set of the named capabilities.
func capabilitySet(names []string) (capSet, error) {
	var set capSet
	for _, name := range names {
		n := slices.Index(capabilities[:], strings.ToUpper(name))
		if n < 0 {
			return 0, fmt.Errorf("bound capabilities: no capability %s: see capabilities(7) for the names", name)
		}
		set |= 1 << n
	}
	return set, nil
}

func (s capSet) has(n int) bool { return s&(1<<n) != 0 }

func (s capSet) String() string {
	var names []string
	for n, name := range capabilities {
		if s.has(n) {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// bound removes all other capabilities from the bounding set, so that no program of the service can ever gain them,
// whatever its file says; and makes the next setresuid keep the permitted ones.
func (s *self) bound() error {
	if !s.Confinement.Bounded {
		return nil
	}
	set, err := capabilitySet(s.Confinement.Capabilities)
	if err != nil {
		return err
	}
	for n := 0; n < 64; n++ { // up to the last one of the kernel, which may be newer than our table
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0); err != nil {
			break
		} else if has == 0 || set.has(n) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0); err != nil {
			return fmt.Errorf("bound capabilities: drop number %d: %w", n, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("bound capabilities: keep them: %w", err)
	}
	return nil
}

// keep sets every other set to exactly the listed capabilities. Root gets them again at execve, up to the bounding set.
// Another user has them as ambient ones, which alone survive the execve of an ordinary program.
func (s *self) keep() error {
	if !s.Confinement.Bounded {
		return nil
	}
	set, err := capabilitySet(s.Confinement.Capabilities)
	if err != nil {
		return err
	}
	have, err := permitted()
	if err != nil {
		return err
	}
	if lack := set &^ have; lack != 0 {
		return fmt.Errorf("keep capabilities: the system has no %s to give: take it out of capabilities", lack)
	}
	if s.already {
		header, data := capData(set)
		err := everywhere(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
		return os.NewSyscallError("keep capabilities", err)
	}
	if err := setCapabilities(set); err != nil {
		return fmt.Errorf("keep capabilities %s: %w", set, err)
	}
	if unix.Geteuid() == 0 {
		return nil
	}
	for n := range capabilities {
		if !set.has(n) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n), 0, 0); err != nil {
			return fmt.Errorf("keep capability %s for the user: %w", capabilities[n], err)
		}
	}
	return nil
}

func permitted() (capSet, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return capSet(data[0].Permitted) | capSet(data[1].Permitted)<<32, nil
}

// setCapabilities changes this thread only (pid 0 in the header).
func setCapabilities(set capSet) error {
	header, data := capData(set)
	return unix.Capset(&header, &data[0])
}

func capData(set capSet) (unix.CapUserHeader, [2]unix.CapUserData) {
	var data [2]unix.CapUserData
	for i := range data {
		word := uint32(set >> (32 * i))
		data[i] = unix.CapUserData{Effective: word, Permitted: word, Inheritable: word}
	}
	return unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, data
}

// noNewPrivileges makes every later execve ignore set-user-id bits and file capabilities.
func (s *self) noNewPrivileges() error {
	if !s.Confinement.NoNewPrivileges {
		return nil
	}
	return s.setNoNewPrivileges()
}

func (s *self) setNoNewPrivileges() error {
	if s.already {
		return os.NewSyscallError("set no-new-privileges", everywhere(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0))
	}
	return os.NewSyscallError("set no-new-privileges", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
}
