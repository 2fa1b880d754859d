// Package values judges single values of compose files. Read CheckName first.
package values

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/containers/app"
	"resinos/services/hostname"
)

// JoinPorts makes ranges of ports that follow each other.
func JoinPorts(list []app.Port) []app.Port {
	slices.SortFunc(list, func(a, b app.Port) int {
		return cmp.Or(strings.Compare(a.Protocol, b.Protocol), strings.Compare(a.Address, b.Address),
			cmp.Compare(a.First, b.First), cmp.Compare(a.Target, b.Target))
	})
	var out []app.Port
	for _, p := range list {
		if n := len(out) - 1; n >= 0 {
			o := out[n]
			if o == p {
				continue // written twice
			}
			if o.Protocol == p.Protocol && o.Address == p.Address && int(o.Last)+1 == int(p.First) &&
				int(p.Target)-int(o.Target) == int(p.First)-int(o.First) {
				out[n].Last = p.First
				continue
			}
		}
		out = append(out, p)
	}
	return out
}

// CheckName refuses what cannot be a name in the network. It differs from hostname.Valid in hyphens alone, which may
// stand at the ends of a part too: Docker permits them in the name of a container.
func CheckName(s string) error {
	if !hostname.Valid(strings.ReplaceAll(s, "-", "x")) {
		return fmt.Errorf("%q is no name: want parts of letters, digits, hyphens and underscores, joined by dots", s)
	}
	return nil
}

// Fits judges a static address, of the key of that name, in the subnet of its network.
func Fits(key, address, subnet string) error {
	if address == "" {
		return nil
	}
	if subnet == "" {
		return fmt.Errorf("%s needs a network with ipam: {config: [{subnet: …}]}", key)
	}
	a, err := netip.ParseAddr(address)
	prefix := netip.MustParsePrefix(subnet)
	if err != nil || !prefix.Contains(a) || a == prefix.Addr() || a == prefix.Addr().Next() ||
		!prefix.Contains(a.Next()) {
		return fmt.Errorf("%s %s is not free in %s: the first address is the gateway's, the last is for all", key,
			address, subnet)
	}
	return nil
}

// Capabilities are those of capabilities(7), by number.
var Capabilities = [...]string{
	unix.CAP_CHOWN: "CHOWN", unix.CAP_DAC_OVERRIDE: "DAC_OVERRIDE", unix.CAP_DAC_READ_SEARCH: "DAC_READ_SEARCH",
	unix.CAP_FOWNER: "FOWNER", unix.CAP_FSETID: "FSETID", unix.CAP_KILL: "KILL", unix.CAP_SETGID: "SETGID",
	unix.CAP_SETUID: "SETUID", unix.CAP_SETPCAP: "SETPCAP", unix.CAP_LINUX_IMMUTABLE: "LINUX_IMMUTABLE",
	unix.CAP_NET_BIND_SERVICE: "NET_BIND_SERVICE", unix.CAP_NET_BROADCAST: "NET_BROADCAST",
	unix.CAP_NET_ADMIN: "NET_ADMIN", unix.CAP_NET_RAW: "NET_RAW", unix.CAP_IPC_LOCK: "IPC_LOCK",
	unix.CAP_IPC_OWNER: "IPC_OWNER", unix.CAP_SYS_MODULE: "SYS_MODULE", unix.CAP_SYS_RAWIO: "SYS_RAWIO",
	unix.CAP_SYS_CHROOT: "SYS_CHROOT", unix.CAP_SYS_PTRACE: "SYS_PTRACE", unix.CAP_SYS_PACCT: "SYS_PACCT",
	unix.CAP_SYS_ADMIN: "SYS_ADMIN", unix.CAP_SYS_BOOT: "SYS_BOOT", unix.CAP_SYS_NICE: "SYS_NICE",
	unix.CAP_SYS_RESOURCE: "SYS_RESOURCE", unix.CAP_SYS_TIME: "SYS_TIME", unix.CAP_SYS_TTY_CONFIG: "SYS_TTY_CONFIG",
	unix.CAP_MKNOD: "MKNOD", unix.CAP_LEASE: "LEASE", unix.CAP_AUDIT_WRITE: "AUDIT_WRITE",
	unix.CAP_AUDIT_CONTROL: "AUDIT_CONTROL", unix.CAP_SETFCAP: "SETFCAP", unix.CAP_MAC_OVERRIDE: "MAC_OVERRIDE",
	unix.CAP_MAC_ADMIN: "MAC_ADMIN", unix.CAP_SYSLOG: "SYSLOG", unix.CAP_WAKE_ALARM: "WAKE_ALARM",
	unix.CAP_BLOCK_SUSPEND: "BLOCK_SUSPEND", unix.CAP_AUDIT_READ: "AUDIT_READ", unix.CAP_PERFMON: "PERFMON",
	unix.CAP_BPF: "BPF", unix.CAP_CHECKPOINT_RESTORE: "CHECKPOINT_RESTORE",
}
