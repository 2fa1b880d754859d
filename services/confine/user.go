package confine

import (
	"fmt"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The account files. os/user is not used: it wants a cgo-free build tag to read them itself, reads
// /etc/group once more for each group, and takes a number for a name when the user runs it.
const (
	passwdPath = "/etc/passwd"
	groupPath  = "/etc/group"
)

// account is one line of passwd(5).
type account struct {
	name, home string
	uid, gid   uint32
	known      bool // false: a number without a line
}

// lookup finds the numbers behind the names of user and groups.
func (s *self) lookup() error {
	if !s.identity() {
		return nil
	}
	groups, err := readAccounts(groupPath)
	if err != nil {
		return err
	}
	if s.User != "" {
		if s.account, err = lookupUser(s.User); err != nil {
			return err
		}
		if !s.account.known && s.Group == "" {
			return fmt.Errorf("lookup user %s: not in %s, so it has no group: add it there or set group", s.User,
				passwdPath)
		}
		s.groups = groupsOf(groups, s.account.name)
		s.environ = userEnvironment(s.environ, s.account)
	}
	if s.Group != "" {
		if s.account.gid, err = lookupGroup(groups, s.Group); err != nil {
			return err
		}
	}
	for _, name := range s.Groups {
		gid, err := lookupGroup(groups, name)
		if err != nil {
			return err
		}
		s.groups = append(s.groups, gid)
	}
	return nil
}

// become takes on the user, the group and the supplementary groups, those of the manager being dropped. It changes this
// thread only; unix.Setresuid and its like would ask every thread of the Go runtime to do the same.
func (s *self) become() error {
	if !s.identity() {
		return nil
	}
	slices.Sort(s.groups)
	groups := slices.Compact(s.groups)
	if err := raw(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))),
		0); err != nil {
		return fmt.Errorf("set groups %v: %w", groups, err)
	}
	gid, uid := uintptr(s.account.gid), uintptr(s.account.uid)
	if err := raw(unix.SYS_SETRESGID, gid, gid, gid); err != nil {
		return fmt.Errorf("set group %d: %w", gid, err)
	}
	if err := raw(unix.SYS_SETRESUID, uid, uid, uid); err != nil {
		return fmt.Errorf("set user %d: %w", uid, err)
	}
	return nil
}

func raw(call, a, b, c uintptr) error {
	if _, _, errno := unix.RawSyscall(call, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

// lookupUser finds a user by name, then by number. A number needs no line in the file.
func lookupUser(who string) (account, error) {
	passwd, err := readAccounts(passwdPath)
	if err != nil {
		return account{}, err
	}
	if a, found := findUser(passwd, who); found {
		return a, nil
	}
	if uid, ok := id(who); ok {
		return account{name: who, home: "/", uid: uid}, nil
	}
	return account{}, fmt.Errorf("lookup user %s: not in %s: add it there or correct user in the service file", who,
		passwdPath)
}

func lookupGroup(groups, who string) (uint32, error) {
	if gid, found := findGroup(groups, who); found {
		return gid, nil
	}
	if gid, ok := id(who); ok {
		return gid, nil
	}
	return 0, fmt.Errorf("lookup group %s: not in %s: add it there or correct group in the service file", who,
		groupPath)
}

// readAccounts treats a missing file as an empty one: numbers need none.
func readAccounts(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return "", fmt.Errorf("read accounts: %w", err)
	}
	return string(data), nil
}

// findUser reads passwd(5): name:password:uid:gid:comment:home:shell. A line that is not like that is passed over.
func findUser(passwd, who string) (account, bool) {
	number, numeric := id(who)
	var byNumber account
	for line := range strings.Lines(passwd) {
		f := strings.Split(strings.TrimRight(line, "\r\n"), ":")
		if len(f) != 7 || f[0] == "" {
			continue
		}
		uid, okUser := id(f[2])
		gid, okGroup := id(f[3])
		if !okUser || !okGroup {
			continue
		}
		a := account{name: f[0], home: f[5], uid: uid, gid: gid, known: true}
		if a.home == "" {
			a.home = "/"
		}
		if a.name == who {
			return a, true
		}
		if numeric && uid == number && !byNumber.known {
			byNumber = a
		}
	}
	return byNumber, byNumber.known
}

// findGroup reads group(5) for one group by name.
func findGroup(groups, who string) (uint32, bool) {
	for line, gid := range eachGroup(groups) {
		if line[0] == who {
			return gid, true
		}
	}
	return 0, false
}

// groupsOf lists the groups that name the user as a member.
func groupsOf(groups, user string) []uint32 {
	var all []uint32
	for line, gid := range eachGroup(groups) {
		if slices.Contains(strings.Split(line[1], ","), user) {
			all = append(all, gid)
		}
	}
	return all
}

// eachGroup walks the lines name:password:gid:member,member and gives name and members, and the number.
func eachGroup(groups string) iter.Seq2[[2]string, uint32] {
	return func(yield func([2]string, uint32) bool) {
		for line := range strings.Lines(groups) {
			f := strings.Split(strings.TrimRight(line, "\r\n"), ":")
			if len(f) != 4 || f[0] == "" {
				continue
			}
			if gid, ok := id(f[2]); ok && !yield([2]string{f[0], f[3]}, gid) {
				return
			}
		}
	}
}

// id reads a user's or group's number. The highest one means "unchanged" to the kernel and is none.
func id(text string) (uint32, bool) {
	if text == "" || text[0] == '+' {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err == nil && n != 1<<32-1
}
