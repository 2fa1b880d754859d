package attach

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Mount is one line of /proc/self/mountinfo.
type Mount struct {
	ID     int
	Parent int
	Major  uint32
	Minor  uint32
	Root   string // the attached part of the file system; not "/" for a bind
	Target string
	Flags  string
	Type   string
	Source string
	Super  string // options of the file system
}

// ReadMounts lists the mounts in this process's mount namespace, oldest first.
func ReadMounts() ([]Mount, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return ParseMountinfo(string(text))
}

// ParseMountinfo reads the format that proc_pid_mountinfo(5) describes:
//
//	36 35 98:0 /root /target rw,noatime master:1 - ext4 /dev/vda1 rw,errors=continue
//	id parent dev  root target flags   optional*  | type source    super
func ParseMountinfo(text string) ([]Mount, error) {
	mounts := make([]Mount, 0, strings.Count(text, "\n"))
	for line := range strings.Lines(text) {
		m, err := parseLine(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("parse mountinfo line %d: %w", len(mounts)+1, err)
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

func parseLine(line string) (Mount, error) {
	head, tail, found := strings.Cut(line, " - ")
	left := strings.Split(head, " ") // not Fields: of the white space the kernel escapes only blank, tab and newline
	right := strings.SplitN(tail, " ", 3)
	if !found || len(left) < 6 || len(right) < 3 {
		return Mount{}, fmt.Errorf("%q has too few fields", line)
	}
	id, err1 := strconv.Atoi(left[0])
	parent, err2 := strconv.Atoi(left[1])
	majorText, minorText, _ := strings.Cut(left[2], ":")
	major, err3 := strconv.ParseUint(majorText, 10, 32)
	minor, err4 := strconv.ParseUint(minorText, 10, 32)
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			return Mount{}, err
		}
	}
	return Mount{
		ID: id, Parent: parent, Major: uint32(major), Minor: uint32(minor),
		Root: unescape(left[3]), Target: unescape(left[4]), Flags: left[5],
		Type: right[0], Source: unescape(right[1]), Super: right[2],
	}, nil
}

// unescape undoes the kernel's \ooo for blank, tab, newline and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// At returns the newest mount at target: the one that a path lookup sees.
func At(mounts []Mount, target string) (Mount, bool) {
	for i := len(mounts) - 1; i >= 0; i-- {
		if mounts[i].Target == target {
			return mounts[i], true
		}
	}
	return Mount{}, false
}
