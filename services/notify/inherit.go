package notify

import (
	"strconv"
	"strings"
)

// Inherited is a descriptor that who started us has opened or kept for us, and the name it gave it.
type Inherited struct {
	FD   int
	Name string // empty when it gave none
}

// FromParent lists the descriptors that were handed to the process pid, as its environment says (sd_listen_fds(3)). There
// are none if the environment was meant for another process.
func FromParent(getenv func(string) string, pid int) []Inherited {
	const first = 3
	if getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil
	}
	n, err := strconv.ParseUint(getenv("LISTEN_FDS"), 10, 10)
	if err != nil {
		return nil
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	var list []Inherited
	for i := range int(n) {
		in := Inherited{FD: first + i}
		if i < len(names) {
			in.Name = names[i]
		}
		list = append(list, in)
	}
	return list
}

// Keep asks who started us to hold fd under name and to hand it to the next process of this service (FDSTORE=1 of
// sd_pid_notify_with_fds(3)). Without a NOTIFY_SOCKET nobody would, and that is no error.
func Keep(name string, fd int) error { return Send("FDSTORE=1\nFDNAME="+name, fd) }
