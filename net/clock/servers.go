package clock

import (
	"slices"
	"strings"
	"syscall"
)

// Ours reports whether this process may set the clock: only in the first pid namespace. In any other, that of a test or
// a container, the clock belongs to the host.
func Ours() bool {
	const first = 0xEFFFFFFC // PROC_PID_INIT_INO in include/linux/proc_ns.h
	var st syscall.Stat_t
	return syscall.Stat("/proc/self/ns/pid", &st) == nil && st.Ino == first
}

// SplitServers reads a list of servers in the form of config.json: names or addresses, separated by blanks or commas.
// Everything else is refused. The name of a pool is written like that of a server.
func SplitServers(text string, valid func(string) bool) (servers, refused []string) {
	for _, word := range strings.FieldsFunc(text,
		func(r rune) bool { return r == ' ' || r == ',' || r == '\t' || r == '\n' || r == '\r' }) {
		word = strings.TrimSuffix(word, ".")
		switch {
		case !valid(word):
			refused = append(refused, word)
		case !slices.Contains(servers, word):
			servers = append(servers, word)
		}
	}
	return servers, refused
}
