package servicebench

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// becomeManager prepares the root that the plan describes, hands the listening socket to the rig and executes the
// manager. Nothing of the host's file systems is attached inside: a manager may remount what it finds.
func becomeManager(path string) error {
	runtime.LockOSThread() // capabilities belong to a thread, and the one that executes the manager must lack them
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var p plan
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	if err := errors.Join(p.devices(), p.kernel(), p.fill()); err != nil {
		return err
	}
	if err := errors.Join(unix.PivotRoot(p.Root, p.Root+"/old"), unix.Chdir("/"),
		unix.Unmount("/old", unix.MNT_DETACH)); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := sendListener(); err != nil {
		return err
	}
	// finit sets the clock from the hardware's on its way up, and this one is the host's. No manager here needs any of
	// these.
	for _, c := range []uintptr{unix.CAP_SYS_TIME, unix.CAP_SYS_MODULE, unix.CAP_SYS_RAWIO, unix.CAP_SYSLOG} {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	unix.CloseOnExec(3)
	return unix.Exec(p.Argv[0], p.Argv, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"})
}

// devices mounts the root and makes the few devices that a manager opens.
func (p plan) devices() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", p.Root, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for _, dir := range []string{"bench", "dev", "proc", "sys", "run", "tmp", "var", "etc", "old", "mnt/boot",
		"mnt/state", "mnt/data", "mnt/sysroot", "usr/bin", "usr/sbin", "home/root"} {
		if err := os.MkdirAll(filepath.Join(p.Root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("tmpfs", p.Root+"/dev", "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	// kmsg: the host's is not ours
	for name, minor := range map[string]uint32{"null": 3, "kmsg": 3, "zero": 5, "urandom": 9} {
		if err := unix.Mknod(p.Root+"/dev/"+name, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return err
		}
	}
	return os.WriteFile(p.Root+"/dev/console", nil, 0o600)
}

// kernel mounts the kernel's file systems, with the host's settings and its reboot key out of reach.
func (p plan) kernel() error {
	cgroups := "tmpfs"
	if p.V2 {
		cgroups = "cgroup2"
	}
	return errors.Join(
		unix.Mount("proc", p.Root+"/proc", "proc", 0, ""),
		unix.Mount(p.Root+"/proc/sys", p.Root+"/proc/sys", "", unix.MS_BIND, ""),
		unix.Mount("", p.Root+"/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""),
		shieldKey(p.Root),
		unix.Mount("sysfs", p.Root+"/sys", "sysfs", unix.MS_RDONLY, ""),
		unix.Mount(cgroups, p.Root+"/sys/fs/cgroup", cgroups, 0, ""))
}

func shieldKey(root string) error {
	err := unix.Mount(root+"/dev/null", root+"/proc/sysrq-trigger", "", unix.MS_BIND, "")
	if err == unix.ENOENT { // a kernel without the key
		return nil
	}
	return err
}

func (p plan) fill() error {
	for to, from := range p.Files {
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := p.write(to, content); err != nil {
			return err
		}
	}
	for to, text := range p.Texts {
		if err := p.write(to, []byte(text)); err != nil {
			return err
		}
	}
	for to, target := range p.Links {
		path := filepath.Join(p.Root, to)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
			return err
		}
	}
	return nil
}

func (p plan) write(to string, content []byte) error {
	path := filepath.Join(p.Root, to)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o755)
}

// sendListener listens for the services and gives the socket to the rig through descriptor 3.
func sendListener() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: lifeSocket}), unix.Listen(fd, 4096)); err != nil {
		return err
	}
	return unix.Sendmsg(3, []byte{1}, unix.UnixRights(fd), nil, 0)
}
