package notify

import (
	"strconv"
	"strings"
)

// Inherited is a descriptor that the parent has opened or kept for this process, with its name.
type Inherited struct {
	FD   int
	Name string // empty if the parent gave none
}

// FromParent lists the descriptors that the process pid got from its parent, as its environment says
// (sd_listen_fds(3)). There are none if the environment is for another process.
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

// Keep asks the parent to keep fd under name and to pass it to the next process of this service (FDSTORE=1 of
// sd_pid_notify_with_fds(3)). Without a NOTIFY_SOCKET it does nothing and returns no error.
func Keep(name string, fd int) error { return Send("FDSTORE=1\nFDNAME="+name, fd) }

// Drop asks the parent to close what it keeps under name (FDSTOREREMOVE=1). Without a NOTIFY_SOCKET it does nothing and
// returns no error.
func Drop(name string) error { return Send("FDSTOREREMOVE=1\nFDNAME=" + name) }
