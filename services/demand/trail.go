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
//	entry    /etc/app conf   the link may come to point elsewhere
//	passing  /etc/data
//	entry    /etc/data conf  the file may be renamed over           last
//	self     /etc/data/conf  the file may be written                last
//
// The first missing place ends the trail: its entry is awaited in the nearest folder there is.
type hop struct {
	role role
	at   string // no link in it
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
	// maxHops bounds what a link full of "a/../a/../" can make us watch. What lies behind is
	// still looked at whenever one of the watched places changes.
	maxHops = 256
)

// kind is what a walk wants to know about a place.
type kind int

const (
	missing kind = iota
	folder
	link
	other
)

// trail walks an absolute path. Look tells what is at a place, and where a link leads; it is not
// asked to follow one.
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
				return hops // as good as missing; a loop is mended by a change of one of its links
			}
			if strings.HasPrefix(to, "/") {
				at = "/"
			}
			rest = append(strings.Split(to, "/"), rest...)
		case what == folder && !final:
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

// look asks the kernel. What cannot be told is missing.
func look(path string) (kind, string) {
	info, err := os.Lstat(path)
	if err != nil {
		return missing, ""
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		return folder, ""
	case fs.ModeSymlink:
		to, err := os.Readlink(path)
		if err != nil || to == "" {
			return missing, ""
		}
		return link, to
	}
	return other, ""
}

// stamp is enough of stat(2) to tell whether a path leads to the same thing, unchanged. The zero
// stamp is nothing there.
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
	return stamp{dev: uint64(st.Dev), ino: uint64(st.Ino), mode: uint32(st.Mode), size: int64(st.Size), mtime: st.Mtim, ctime: st.Ctim}
}

// changedSince reports a change since then and up to now, clocks as the file systems use them. They tick every few milliseconds: what has
// the same moment may have come before or after, and counts, since a change too many is better than one lost. A stamp from the future says
// only that the clock is wrong.
func (s stamp) changedSince(since, now unix.Timespec) bool {
	return s != stamp{} && !before(s.ctime, since) && !before(now, s.ctime)
}

func before(a, b unix.Timespec) bool {
	return a.Sec < b.Sec || a.Sec == b.Sec && a.Nsec < b.Nsec
}

// fileClock is the clock that file systems take their times from: none is earlier than it.
func fileClock() unix.Timespec { return clock(unix.CLOCK_REALTIME_COARSE) }

// latest is later than any time that a file system has given until now. Since Linux 6.13 some of them are finer than
// the ticks of fileClock, and so up to one tick later than what it says.
func latest() unix.Timespec { return clock(unix.CLOCK_REALTIME) }

func clock(id int32) unix.Timespec {
	var ts unix.Timespec
	if unix.ClockGettime(id, &ts) != nil {
		return unix.Timespec{} // then nothing has changed since
	}
	return ts
}
