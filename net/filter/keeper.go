package filter

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"resinos/net/netstate"
	"resinos/net/ruleset"
	"resinos/services/boottime"
)

// again is the pause after which a table that the kernel refused is tried again.
const again = 10 * time.Second

// Keeper keeps the kernel's table as wished. New creates one, Run works.
type Keeper struct {
	log     *slog.Logger
	changed chan struct{}
	began   chan struct{} // closed by Run when it has set, or tried to set, its first table
	begin   time.Duration // when the first table is set, since kernel start

	mu    sync.Mutex // guards what follows
	wish  Wish
	links bool   // the links are known
	set   bool   // the settings are known
	fault string // why the table is not as wished; empty: it is
}

// New returns a keeper that does nothing before Follow and Set have been called, and nothing for the time of pause: the
// kernel loads ten modules for the first table, and while a device boots its containers come first. A tunnel that
// others may open ends the pause: a connection that passes meanwhile would pass later, too.
func New(log *slog.Logger, pause time.Duration) *Keeper {
	return &Keeper{log: log, changed: make(chan struct{}, 1), began: make(chan struct{}),
		begin: boottime.Now() + pause}
}

// Follow takes the links from what netd has configured. It does not block.
func (k *Keeper) Follow(s netstate.State) {
	k.update(func(w *Wish) {
		k.links, w.Links, w.Shared, w.Tunnels, w.Listens = true, nil, nil, nil, nil
		for _, l := range s.Links {
			w.Links = append(w.Links, l.Name)
			if l.Tunnel {
				w.Tunnels = append(w.Tunnels, l.Name)
			}
			if l.Listens != 0 {
				w.Listens = append(w.Listens, l.Listens)
			}
			if l.Shared.IsValid() || l.Shared6.IsValid() {
				w.Shared = append(w.Shared, l.Name)
			}
		}
	})
}

// Set replaces all of the wish but the links. It does not block.
func (k *Keeper) Set(closed, ssh bool, ports []Ports) {
	k.update(func(w *Wish) {
		k.set = true
		w.Closed, w.SSH, w.Ports = closed, ssh, ports
	})
}

// Began is closed when the kernel has been asked for the first table: from then on it has the modules that tables need,
// or cannot have them.
func (k *Keeper) Began() <-chan struct{} { return k.began }

// Check has the keeper look whether the table is there.
func (k *Keeper) Check() {
	select {
	case k.changed <- struct{}{}:
	default: // it has not looked since the last time
	}
}

// update changes the wish.
func (k *Keeper) update(change func(*Wish)) {
	k.mu.Lock()
	before, known := k.wish, k.links && k.set
	change(&k.wish)
	same := known && before.equal(k.wish)
	k.mu.Unlock()
	if !same {
		k.Check()
	}
}

// Fault says why the filter is not as wished; empty: it is.
func (k *Keeper) Fault() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fault
}

// Steps returns the rules as they are to be; none while it is not known what they depend on.
func (k *Keeper) Steps() []string {
	k.mu.Lock()
	wish, known := k.wish, k.links && k.set
	k.mu.Unlock()
	if !known {
		return nil
	}
	wish.Groups = groups()
	return Plan(wish).Steps()
}

// Run works until ctx ends. The table stays then.
func (k *Keeper) Run(ctx context.Context) {
	retry := time.NewTimer(again)
	retry.Stop()
	var applied string
	tried := sync.OnceFunc(func() { close(k.began) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.changed:
		case <-retry.C:
		}
		k.mu.Lock()
		wish, known := k.wish, k.links && k.set
		k.mu.Unlock()
		if !known {
			continue
		}
		if applied == "" && len(wish.Links) == 0 {
			continue // netd sets no link up before it tells of it: nothing can come
		}
		if left := k.begin - boottime.Now(); left > 0 && len(wish.Listens) == 0 {
			retry.Reset(left)
			continue
		}
		wish.Groups = groups()
		table := Plan(wish)
		text := table.String()
		if text == applied && ruleset.There(table) {
			continue
		}
		err := ruleset.Apply([]ruleset.Table{table})
		tried()
		k.note(err)
		if err != nil {
			applied = ""
			retry.Reset(again)
			continue
		}
		applied = text
		k.log.Info("packet filter set", "state", map[bool]string{true: "closed", false: "open"}[wish.Closed])
		for _, step := range table.Steps() {
			k.log.Debug("link step", "step", step)
		}
	}
}

func (k *Keeper) note(err error) {
	text := ""
	if err != nil {
		text = fmt.Sprintf("the packet filter is not as it is to be: %v", err)
	}
	k.mu.Lock()
	was := k.fault
	k.fault = text
	k.mu.Unlock()
	if text != "" && text != was {
		k.log.Error("packet filter not set", "error", err)
	}
}

// containers is the cgroup above all containers (init/limits), which every boot creates.
const (
	cgroups    = "/sys/fs/cgroup"
	containers = "resinos/containers"
)

// groups returns the cgroups whose sockets may be reached. Without that of the containers there are none yet.
func groups() []Group {
	info, err := os.Stat(filepath.Join(cgroups, containers))
	if err != nil {
		return nil
	}
	st, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return nil
	}
	return []Group{{containers, st.Ino}}
}
