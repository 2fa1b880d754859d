package demand

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A path is watched at every place where its meaning can change:
//
//	/etc/app/conf -> ../data/conf
//
//	passing  /etc            somebody may move or remove it
//	passing  /etc/app        the same
//	entry    /etc/app conf   the link may get another target
//	passing  /etc/data
//	entry    /etc/data conf  the file may be replaced by a rename   last
//	self     /etc/data/conf  the file may be written                last
//
// The first missing place ends the trail: its entry is awaited in the nearest directory that exists.
type hop struct {
	role role
	at   string // without symlinks
	name string // of an entry in at
	last bool   // a change here is a change of the path, not only of where it leads
}

type role int

const (
	passing role = iota
	entry
	self
)

const (
	// maxLinks is how many links the kernel follows in one path (MAXSYMLINKS).
	maxLinks = 40
	// maxHops limits what a link full of "a/../a/../" can make us watch. What is behind is still looked at whenever one
	// of the watched places changes.
	maxHops = 256
)

// kind is the kind of a place, as a walk needs it.
type kind int

const (
	missing kind = iota
	directory
	link
	other
)

// trail walks an absolute path. look returns the kind of a place, and the target of a link; it must not follow links.
func trail(path string, look func(string) (kind, string)) []hop {
	var hops []hop
	at, rest, links := "/", strings.Split(path, "/"), 0
	for len(rest) > 0 && len(hops) < maxHops {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		full := filepath.Join(at, name)
		what, to := look(full)
		final := !more(rest)
		switch {
		case what == link:
			hops = append(hops, hop{entry, at, name, false})
			if links++; links > maxLinks {
				return hops // the same as missing; a loop ends when one of its links changes
			}
			if strings.HasPrefix(to, "/") {
				at = "/"
			}
			rest = append(strings.Split(to, "/"), rest...)
		case what == directory && !final:
			hops = append(hops, hop{passing, full, "", false})
			at = full
		default:
			hops = append(hops, hop{entry, at, name, final})
			if what != missing && final {
				hops = append(hops, hop{self, full, "", true})
			}
			return hops
		}
	}
	if len(rest) > 0 {
		return hops
	}
	return append(hops, hop{self, at, "", true})
}

// more reports whether rest leads anywhere.
func more(rest []string) bool {
	for _, name := range rest {
		if name != "" && name != "." {
			return true
		}
	}
	return false
}

// look asks the kernel. What cannot be read counts as missing.
func look(path string) (kind, string) {
	info, err := os.Lstat(path)
	if err != nil {
		return missing, ""
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		return directory, ""
	case fs.ModeSymlink:
		to, err := os.Readlink(path)
		if err != nil || to == "" {
			return missing, ""
		}
		return link, to
	}
	return other, ""
}

// stamp is the part of stat(2) that tells whether a path leads to the same file, unchanged. The zero stamp means that
// nothing is there.
type stamp struct {
	dev, ino     uint64
	mode         uint32
	size         int64
	mtime, ctime unix.Timespec
}

func stampOf(path string) stamp {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return stamp{}
	}
	// The numbers are narrower on some architectures.
	return stamp{dev: uint64(st.Dev), ino: uint64(st.Ino), mode: uint32(st.Mode), size: int64(st.Size), mtime: st.Mtim,
		ctime: st.Ctim}
}

// changedSince reports a change after since and up to now, in the clocks of file systems. These advance every few
// milliseconds, so a change at the same moment may have come before or after; it counts, because a change too many is
// better than one lost. A stamp in the future only means that the clock is wrong.
func (s stamp) changedSince(since, now unix.Timespec) bool {
	return s != stamp{} && !before(s.ctime, since) && !before(now, s.ctime)
}

func before(a, b unix.Timespec) bool {
	return a.Sec < b.Sec || a.Sec == b.Sec && a.Nsec < b.Nsec
}

// fileClock is the clock from which file systems take their times: no time is earlier.
func fileClock() unix.Timespec { return clock(unix.CLOCK_REALTIME_COARSE) }

// latest is later than any time that a file system has given until now. Since Linux 6.13 some of these are finer than
// the ticks of fileClock, and so up to one tick later.
func latest() unix.Timespec { return clock(unix.CLOCK_REALTIME) }

func clock(id int32) unix.Timespec {
	var ts unix.Timespec
	if unix.ClockGettime(id, &ts) != nil {
		return unix.Timespec{} // then nothing has changed since
	}
	return ts
}
