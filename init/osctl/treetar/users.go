package treetar

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// users are those of a container with a user namespace of its own (userns_mode: auto): it sees the user FIRST+N of the
// device as N. The zero value is a container with the users of the device.
type users struct{ first, count uint32 }

// nobody is the user and the group of files whose owner a container does not know.
const nobody = 65534

// OpenProcess opens the root of a process, with the users that it sees. Groups have the same numbers.
func OpenProcess(pid int) (*Root, error) {
	r, err := Open(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", pid))
	if err != nil {
		_ = r.Close() // nothing was done with it
		return nil, err
	}
	r.users = parseUsers(string(text))
	return r, nil
}

// parseUsers reads the text of /proc/PID/uid_map (user_namespaces(7)): the container's users, the device's, how many.
func parseUsers(text string) users {
	block := strings.Fields(text)
	if len(block) != 3 {
		return users{}
	}
	first, err := strconv.ParseUint(block[1], 10, 32)
	count, countErr := strconv.ParseUint(block[2], 10, 32)
	if err != nil || countErr != nil || first == 0 {
		return users{} // those of the device
	}
	return users{uint32(first), uint32(count)}
}

// shown is a user of the device as the container sees it.
func (u users) shown(id uint32) int {
	switch {
	case u.count == 0:
		return int(id)
	case id < u.first || id-u.first >= u.count:
		return nobody
	}
	return int(id - u.first)
}

// real is a user of the container as the device sees it.
func (u users) real(id int) int {
	switch {
	case u.count == 0:
		return id
	case id < 0 || uint32(id) >= u.count:
		return int(u.first) + nobody
	}
	return int(u.first) + id
}

// as calls f with new files belonging to root of the container. In a volume of it no other user could make any.
func (u users) as(f func() error) error {
	if u.count == 0 {
		return f()
	}
	runtime.LockOSThread() // the user and the capabilities are those of one thread
	defer runtime.UnlockOSThread()
	for _, set := range []func(int) error{unix.Setfsgid, unix.Setfsuid} {
		if err := set(int(u.first)); err != nil {
			return fmt.Errorf("become root of the container: %w", err)
		}
		defer func() { _ = set(0) }() // with it come the capabilities back
	}
	// What root may do to files goes with the user, and root of the container may do it too.
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&head, &data[0])
	if err == nil {
		data[0].Effective, data[1].Effective = data[0].Permitted, data[1].Permitted
		err = unix.Capset(&head, &data[0])
	}
	if err != nil {
		return fmt.Errorf("become root of the container: %w", err)
	}
	return f()
}
