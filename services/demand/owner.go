package demand

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// owner is the owner of a Unix socket.
type owner struct{ uid, gid int }

// findOwner looks up a user and a group by name or number. Without a group it uses the user's group from /etc/passwd;
// without either it uses root.
func findOwner(user, group string) (owner, error) {
	var o owner
	if user != "" {
		line, err := lookup("/etc/passwd", user)
		if err != nil {
			return o, fmt.Errorf("find user %s: %w", user, err)
		}
		o = owner{uid: line.id, gid: line.group}
	}
	if group != "" {
		line, err := lookup("/etc/group", group)
		if err != nil {
			return o, fmt.Errorf("find group %s: %w", group, err)
		}
		o.gid = line.id
	}
	return o, nil
}

// account is a line of passwd(5) or group(5); group is 0 in the latter.
type account struct{ id, group int }

// lookup finds a name or number in path. A number needs no line there.
func lookup(path, who string) (account, error) {
	data, err := os.ReadFile(path)
	number, isNumber := parseID(who)
	if err != nil && !isNumber {
		return account{}, err
	}
	if found, ok := find(string(data), who); ok {
		return found, nil
	}
	if isNumber {
		return account{id: number}, nil
	}
	return account{}, fmt.Errorf("not in %s", path)
}

// find returns the first line whose name or number is who. It skips invalid lines, as the C library does.
func find(text, who string) (account, bool) {
	number, isNumber := parseID(who)
	for line := range strings.SplitSeq(text, "\n") {
		fields := strings.Split(line, ":") // NAME:x:UID:GID:… or NAME:x:GID:MEMBERS
		if len(fields) < 4 || fields[0] == "" {
			continue
		}
		id, ok := parseID(fields[2])
		if !ok || fields[0] != who && (!isNumber || id != number) {
			continue
		}
		a := account{id: id}
		if len(fields) >= 7 {
			if a.group, ok = parseID(fields[3]); !ok {
				continue
			}
		}
		return a, true
	}
	return account{}, false
}

// parseID reads a uid or gid; the largest number stands for "no change" in chown(2).
func parseID(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err == nil && n < 1<<32-1
}
