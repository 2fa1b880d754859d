package keys

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"resinos/mounts/disk"
	"resinos/services/spec"
	"resinos/services/spell"
)

// capabilityNames are the kernel's, each at its number (include/uapi/linux/capability.h).
var capabilityNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

// rlimitNames are those of setrlimit(2), in lower case without RLIMIT_, but for the two that Linux ignores: locks, rss.
var rlimitNames = [...]string{
	"as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc", "rtprio",
	"rttime", "sigpending", "stack",
}

// capabilities reads all that a service may ever have; ["all"] takes back a lower layer's bound.
func capabilities(v any, to *spec.Confinement) []Fault {
	if array, ok := v.([]any); ok && len(array) == 1 && array[0] == "all" {
		to.Bounded, to.Capabilities = false, nil
		return nil
	}
	out, faults := convert(v, func(s string) (string, *Fault) {
		name := strings.TrimPrefix(strings.ToUpper(s), "CAP_")
		if !slices.Contains(capabilityNames[:], name) {
			return "", &Fault{Text: fmt.Sprintf("%q is no capability", s), Hint: capabilityHint(name)}
		}
		return "CAP_" + name, nil
	})
	to.Bounded, to.Capabilities = true, out
	return faults
}

func capabilityHint(name string) string {
	if name == "ALL" {
		return `["all"] stands alone`
	}
	best, distance := "", 3
	for _, known := range capabilityNames {
		if d := spell.Distance(name, known); d < distance {
			best, distance = known, d
		}
	}
	if best != "" {
		return "did you mean CAP_" + best + "?"
	}
	return "capabilities(7) lists them, as CAP_NET_ADMIN"
}

// rlimits adds to what a lower layer said, name by name; an empty value takes one back.
func rlimits(v any, to *map[string]spec.Rlimit) []Fault {
	table, ok := v.(map[string]any)
	if !ok {
		return wrong(`a table, [rlimits] with lines as nofile = 1024`, v)
	}
	var faults []Fault
	out := make(map[string]spec.Rlimit, len(table))
	maps.Copy(out, *to)
	for _, name := range slices.Sorted(maps.Keys(table)) {
		if !slices.Contains(rlimitNames[:], name) {
			faults = append(faults, Fault{Key: name, Text: "is no limit",
				Hint: "one of " + strings.Join(rlimitNames[:], ", ")})
			continue
		}
		if table[name] == "" {
			delete(out, name)
			continue
		}
		limit, f := parseRlimit(table[name])
		if f != nil {
			f.Key = name
			faults = append(faults, *f)
			continue
		}
		out[name] = limit
	}
	if *to = out; len(out) == 0 {
		*to = nil
	}
	return faults
}

func parseRlimit(v any) (spec.Rlimit, *Fault) {
	const hint = `1024, "1024:4096" (soft and hard) or "infinity"`
	switch v := v.(type) {
	case int64:
		if v < 0 {
			return spec.Rlimit{}, &Fault{Text: fmt.Sprintf("%d is out of range", v), Hint: hint}
		}
		return spec.Rlimit{Soft: uint64(v), Hard: uint64(v)}, nil
	case string:
		one, two, both := strings.Cut(v, ":")
		if !both {
			two = one
		}
		soft, ok1 := parseLimit(one)
		hard, ok2 := parseLimit(two)
		switch {
		case !ok1 || !ok2:
			return spec.Rlimit{}, &Fault{Text: fmt.Sprintf("%q is no limit", v), Hint: hint}
		case soft > hard:
			return spec.Rlimit{}, &Fault{Text: fmt.Sprintf("%q has its soft limit above the hard one", v),
				Hint: "the soft one first: " + hint}
		}
		return spec.Rlimit{Soft: soft, Hard: hard}, nil
	}
	return spec.Rlimit{}, &Fault{Text: "is " + kind(v), Hint: "write " + hint}
}

func parseLimit(s string) (uint64, bool) {
	if s == "infinity" {
		return spec.Infinity, true
	}
	n, err := disk.ParseBytes(s) // of limits that count something else, "4K" is 4096 of them
	return uint64(n), err == nil
}

// packed reads the names of packed programs, or one of them; which there are is a matter of the image.
func packed(v any, to *[]string) (faults []Fault) {
	if one, is := v.(string); is {
		if v = []any{one}; one == "" {
			v = []any{}
		}
	}
	*to, faults = convert(v, func(s string) (string, *Fault) {
		if !ValidName(s) {
			return "", &Fault{Text: fmt.Sprintf("%q is no name of a packed program", s),
				Hint: "a-z, 0-9, - and _, at most 64"}
		}
		return s, nil
	})
	return faults
}

// profile reads the name of a seccomp profile; services/confine knows which there are.
func profile(v any, to *string) []Fault {
	var s string
	if f := text(v, &s); f != nil {
		return f
	}
	if s != "" && !ValidName(s) {
		return fault(fmt.Sprintf("%q is no name of a profile", s), "a-z, 0-9, - and _, at most 64")
	}
	*to = s
	return nil
}
