package updater

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/init/updatecontrol"
)

// lockFiles are the update locks of a container, in its own root file system: those that balena's supervisor looks for.
// Their directories are in memory, and new with each start of the container (containers/ocispec), so that a lock never
// outlives the container that made it.
var lockFiles = []string{"tmp/balena/updates.lock", "tmp/balena/resin-updates.lock", "tmp/resin/updates.lock",
	"tmp/resin/resin-updates.lock"}

// lookForLocks is the time from one look at the locks to the next.
const lookForLocks = 5 * time.Second

// locks lists what the containers that run have locked, for people. A container that nobody can look into has no lock.
func (d *device) locks() (held []string) {
	groups, _ := os.ReadDir(d.containers) // without the directory no container has ever run
	for _, group := range groups {
		root, err := rootOf(filepath.Join(d.containers, group.Name()))
		if err != nil {
			continue // it has ended
		}
		for _, file := range lockFiles {
			if how := lockOf(root, file); how != "" {
				held = append(held, fmt.Sprintf("container %s: /%s %s", group.Name(), file, how))
			}
		}
		unix.Close(root)
	}
	slices.Sort(held)
	return held
}

// rootOf opens the root file system of the processes below a control group.
func rootOf(group string) (root int, err error) {
	err = os.ErrNotExist
	_ = filepath.WalkDir(group, func(path string, e os.DirEntry, fault error) error {
		if fault != nil || !e.IsDir() {
			return nil // it has just ended
		}
		text, fault := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if fault != nil {
			return nil
		}
		for pid := range strings.FieldsSeq(string(text)) {
			if _, fault := strconv.Atoi(pid); fault != nil {
				continue
			}
			root, err = unix.Open("/proc/"+pid+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err == nil {
				return filepath.SkipAll
			}
		}
		return nil
	})
	return root, err
}

// lockOf says how a file locks; "" is not at all. The container may have put anything there: links lead nowhere out of
// it, and a FIFO holds nobody up.
func lockOf(root int, file string) string {
	fd, err := unix.Openat2(root, file, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return ""
	case err != nil:
		return "exists"
	}
	defer unix.Close(fd)
	if errors.Is(unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK) {
		return "is locked by a process"
	}
	return "exists"
}

// awaitLocks returns when no container has a lock, or when locks do not count. It tells each change of them.
func (s *server) awaitLocks(ctx context.Context, override bool) error {
	tick := time.NewTicker(s.lookForLocks)
	defer tick.Stop()
	for last := ""; ; {
		held := strings.Join(s.device.locks(), "; ")
		switch {
		case held == "":
			return nil
		case override:
			s.log.Warn("update locks overridden", "reason", held)
			return nil
		case held != last:
			s.log.Info("update locks delay the reboot", "reason", held)
		}
		last = held
		s.install.set(func(now *updatecontrol.Progress) { now.Phase, now.Locks = updatecontrol.Locked, held })
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
