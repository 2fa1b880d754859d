package stage1

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/disk"
)

// pollEvery bounds how long a lost uevent can delay the boot.
const pollEvery = 100 * time.Millisecond

// await returns the partitions with the given UUID as soon as there is one. It looks again whenever the kernel
// announces a device, so that a new disk is used at once.
func await(uuid string, patience time.Duration) ([]disk.Partition, error) {
	events, err := listen()
	if err == nil {
		defer unix.Close(events)
	}
	// Without a socket the loop looks at fixed intervals.
	for deadline := time.Now().Add(patience); ; {
		all, err := disk.Read("/sys")
		if err != nil {
			return nil, err
		}
		unread := disk.Identify("/sys", "/dev", all) // an unreadable disk must not hide the others
		if same := disk.ByUUID(all, uuid); len(same) > 0 {
			return same, nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			err := fmt.Errorf("no partition with PARTUUID %s appeared in %v; there are: %s", uuid, patience, names(all))
			return nil, errors.Join(err, unread)
		}
		pause(events, min(left, pollEvery))
	}
}

func names(all []disk.Partition) string {
	if len(all) == 0 {
		return "none (is the disk's driver in the board's initramfs modules?)"
	}
	text := ""
	for _, p := range all {
		text += fmt.Sprintf("%s=%s ", p.Device, p.UUID)
	}
	return text[:len(text)-1]
}

// listen opens a socket that becomes readable on every uevent of the kernel; -1 when it cannot.
func listen() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK,
		unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return -1, fmt.Errorf("listen for uevents: %w", err)
	}
	const kernelGroup = 1
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		return -1, errors.Join(fmt.Errorf("listen for uevents: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// pause returns after a uevent or after the given time. It discards all waiting uevents: their content is read from
// sysfs instead.
func pause(events int, longest time.Duration) {
	set := []unix.PollFd{{Fd: int32(events), Events: unix.POLLIN}} // a negative descriptor is skipped by poll
	if n, err := unix.Poll(set, int(longest.Milliseconds())+1); err != nil || n == 0 {
		return
	}
	var buffer [8 << 10]byte
	for {
		_, _, err := unix.Recvfrom(events, buffer[:], unix.MSG_DONTWAIT)
		if err != nil && err != unix.EINTR && err != unix.ENOBUFS {
			return
		}
	}
}
