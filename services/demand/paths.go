package demand

import (
	"errors"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"resinos/mounts/dirwatch"
	"resinos/services/proc"
)

// The events that inotify reports for a place.
const (
	moves   = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO
	leaves  = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	changes = unix.IN_CLOSE_WRITE | unix.IN_ATTRIB
)

// masks are the events by role. The last entry also reports writes, which may come before the file itself is watched.
var masks = map[role]uint32{
	passing: leaves | unix.IN_ONLYDIR,
	entry:   leaves | moves | unix.IN_ONLYDIR,
	self:    leaves | moves | changes,
}

// paths watches paths with one inotify instance. It belongs to the goroutine of Watcher.Run.
type paths struct {
	open    func() (dirwatch.Inotify, error)
	inotify dirwatch.Inotify // -1: nothing was armed yet, or inotify is used up
	scarce  bool             // it was used up, and that was logged
	look    time.Time        // when to look at the blind targets; zero: there is none
	log     *slog.Logger
	buf     []byte
	armed   map[int][]*target
	watches map[int32]map[*target]bool // the users of a watch of the kernel
	stirred map[*target]bool           // something happened, and it is not quiet yet
}

// target is one armed path.
type target struct {
	id    int
	path  string
	spots []spot
	stamp stamp
	quiet quiet
	hit   bool // the path itself has changed
	blind bool // it has no watch: it is looked at regularly
}

// spot is a hop that is watched.
type spot struct {
	hop
	wd int32
}

func newPaths(open func() (dirwatch.Inotify, error), log *slog.Logger) *paths {
	return &paths{
		open: open, inotify: -1, log: log,
		armed: map[int][]*target{}, watches: map[int32]map[*target]bool{}, stirred: map[*target]bool{},
	}
}

func (p *paths) close() {
	if p.inotify >= 0 {
		p.inotify.Close()
	}
}

// attach opens the inotify instance, unless inotify is used up.
func (p *paths) attach() bool {
	if p.inotify >= 0 {
		return true
	}
	i, err := p.open()
	if err != nil {
		p.lacks("/", err)
		return false
	}
	p.inotify = i
	return true
}

// lacks logs that inotify is used up: containers may have all of it, because their root is root here.
func (p *paths) lacks(path string, err error) {
	if !p.scarce {
		p.log.Warn("inotify is used up, looking every second", "path", path, "error", err)
	}
	p.scarce = true
}

// lookAgain sets the time of the next look at the blind targets, if there are any.
func (p *paths) lookAgain(now time.Time) {
	p.look = time.Time{}
	for _, list := range p.armed {
		for _, t := range list {
			if t.blind {
				p.look = now.Add(dirwatch.Every)
				return
			}
		}
	}
	if len(p.armed) == 0 {
		return // nobody knows
	}
	if p.scarce {
		p.log.Info("inotify is available again")
	}
	p.scarce = false
}

// lookAround looks for changes of the blind targets, and tries again to watch them.
func (p *paths) lookAround(now time.Time) {
	if p.look.IsZero() || p.look.After(now) {
		return
	}
	for _, list := range p.armed {
		for _, t := range list {
			if !t.blind {
				continue
			}
			was := t.stamp
			if p.follow(t); t.stamp != was {
				t.hit = true
				p.stir(t, now)
			}
		}
	}
	p.lookAgain(now)
}

// add watches a path. What has changed after since counts as a change.
func (p *paths) add(id int, path string, since unix.Timespec) {
	t := &target{id: id, path: path}
	p.armed[id] = append(p.armed[id], t)
	if p.follow(t); t.blind && p.look.IsZero() {
		p.look = time.Now().Add(dirwatch.Every)
	}
	if t.stamp.changedSince(since, latest()) {
		t.hit = true
		p.stir(t, time.Now())
	}
}

func (p *paths) remove(id int) {
	for _, t := range p.armed[id] {
		for _, s := range t.spots {
			p.release(t, s.wd)
		}
		delete(p.stirred, t)
	}
	delete(p.armed, id)
}

// pending lists those of the wanted paths for whose change id is armed, and which have changed but not fired yet.
func (p *paths) pending(id int, wanted []string) []string {
	if len(wanted) == 0 || len(p.armed[id]) == 0 {
		return nil
	}
	p.read(time.Now()) // the kernel may have more events
	var list []string
	for _, t := range p.armed[id] {
		if p.stirred[t] && t.hit && slices.Contains(wanted, t.path) {
			list = append(list, t.path)
		}
	}
	return list
}

// restore lets the changes that pending has returned happen again.
func (p *paths) restore(id int, list []string) {
	for _, t := range p.armed[id] {
		if slices.Contains(list, t.path) {
			t.hit = true
			p.stir(t, time.Now())
		}
	}
}

// maxWalks limits how often follow tries to see the same trail twice. Faster changes stir the target again.
const maxWalks = 4

// follow moves the watches of t to where its path leads now, which may be a file system that hangs.
func (p *paths) follow(t *target) { proc.Deaf(func() { p.walk(t) }) }

// walk is follow. A place may change between the look at it and its watch, so walk repeats until the watches are those
// of the previous time.
func (p *paths) walk(t *target) {
	for range maxWalks {
		spots := p.watch(t)
		for _, old := range t.spots {
			if !slices.ContainsFunc(spots, func(s spot) bool { return s.wd == old.wd }) {
				p.release(t, old.wd)
			}
		}
		same := slices.Equal(spots, t.spots)
		t.spots = spots
		if same {
			break
		}
	}
	t.stamp = stampOf(t.path)
}

func (p *paths) watch(t *target) []spot {
	var spots []spot
	if t.blind = !p.attach(); t.blind {
		return nil
	}
	for _, h := range trail(t.path, look) {
		mask := masks[h.role]
		if h.role == entry && h.last {
			mask |= unix.IN_CLOSE_WRITE
		}
		// Several hops may be the same file to the kernel, which then combines the masks.
		wd, err := p.inotify.Add(h.at, mask|unix.IN_MASK_ADD|unix.IN_DONT_FOLLOW)
		switch {
		case err == nil:
			if p.watches[wd] == nil {
				p.watches[wd] = map[*target]bool{}
			}
			p.watches[wd][t] = true
			spots = append(spots, spot{h, wd})
		case dirwatch.Scarce(err):
			t.blind = true
			p.lacks(h.at, err)
		case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR): // these two: removed since the walk
			p.log.Warn("demand lost", "path", h.at, "error", err)
		}
	}
	return spots
}

func (p *paths) release(t *target, wd int32) {
	users := p.watches[wd]
	delete(users, t)
	if users != nil && len(users) == 0 {
		delete(p.watches, wd)
		p.inotify.Remove(wd)
	}
}

// read reads one buffer of events; the kernel reports the rest again.
func (p *paths) read(now time.Time) {
	if p.buf == nil {
		p.buf = make([]byte, 16<<10)
	}
	if p.inotify < 0 {
		return
	}
	for _, ev := range p.inotify.Read(p.buf) {
		p.event(ev, now)
	}
}

func (p *paths) event(ev dirwatch.Event, now time.Time) {
	if ev.Mask&unix.IN_Q_OVERFLOW != 0 {
		p.overflow(now)
		return
	}
	users := p.watches[ev.Watch]
	if ev.Mask&unix.IN_IGNORED != 0 {
		delete(p.watches, ev.Watch) // the kernel has, too
	}
	for t := range users {
		for _, s := range t.spots {
			if s.wd == ev.Watch {
				p.judge(t, s.hop, ev, now)
			}
		}
	}
}

// judge decides what an event means for a target that watches h.
func (p *paths) judge(t *target, h hop, ev dirwatch.Event, now time.Time) {
	lost := ev.Mask&(leaves|unix.IN_IGNORED|unix.IN_UNMOUNT) != 0
	named := h.role == entry && ev.Name == h.name
	if h.role == self && ev.Mask&unix.IN_IGNORED == 0 || named && h.last {
		t.hit = true
	} else if !named && !lost {
		return // about another file
	}
	p.stir(t, now)
}

// overflow fires everything, because events were lost.
func (p *paths) overflow(now time.Time) {
	p.log.Warn("path events lost, all paths count as changed")
	for _, list := range p.armed {
		for _, t := range list {
			t.hit = true
			p.stir(t, now)
		}
	}
}

func (p *paths) stir(t *target, now time.Time) {
	t.quiet.note(now)
	p.stirred[t] = true
}

// next returns when settle must be called; zero: never.
func (p *paths) next() time.Time {
	next := p.look
	for t := range p.stirred {
		if due := t.quiet.due(); next.IsZero() || due.Before(next) {
			next = due
		}
	}
	return next
}

// settle returns the changes of paths that have become quiet. If only the way to a path has changed, settle follows it,
// and the file there decides.
func (p *paths) settle(now time.Time) []Fire {
	p.lookAround(now)
	var fires []Fire
	for t := range p.stirred {
		if t.quiet.due().After(now) {
			continue
		}
		delete(p.stirred, t)
		was := t.stamp
		if !t.hit {
			p.follow(t)
		}
		if t.hit || t.stamp != was {
			fires = append(fires, Fire{ID: t.id, What: changeOf(t.path)})
		}
		t.quiet, t.hit = quiet{}, false
	}
	return fires
}
