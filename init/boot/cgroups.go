package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"resinos/services/sysctl"
)

// cgroups enables every controller of the kernel for the cgroups of services, and moves PID 1 out of the root cgroup,
// where limits and protections have no effect.
func (s *System) cgroups() error {
	var kind unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &kind); err != nil || kind.Type != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("enable controllers: %s is not a cgroup v2 file system", cgroupRoot)
	}
	for _, dir := range []string{ownGroup, servicesGroup} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	faults := []error{sysctl.Write(filepath.Join(ownGroup, "cgroup.procs"), "0")}
	for _, dir := range []string{cgroupRoot, servicesGroup} {
		faults = append(faults, enableControllers(dir))
	}
	if err := sysctl.Write(filepath.Join(ownGroup, "memory.min"),
		strconv.FormatInt(int64(ownMemory), 10)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

func enableControllers(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("enable controllers: %w", err)
	}
	var faults []error
	for name := range strings.FieldsSeq(string(text)) {
		faults = append(faults, sysctl.Write(filepath.Join(dir, "cgroup.subtree_control"), "+"+name))
	}
	return errors.Join(faults...)
}
