package clock

import (
	"slices"
	"strings"
	"syscall"
)

// Ours reports whether this process may set the clock at all: only in the first pid name space. In any other, a test's
// or a container's, the clock is that of the host.
func Ours() bool {
	const first = 0xEFFFFFFC // PROC_PID_INIT_INO in include/linux/proc_ns.h
	var st syscall.Stat_t
	return syscall.Stat("/proc/self/ns/pid", &st) == nil && st.Ino == first
}

// SplitServers reads a list of servers as config.json holds it: names or addresses, parted by blanks or commas. What
// is neither is refused. A pool's name is written like a server's.
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
