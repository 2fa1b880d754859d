package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"resinos/bsp/uevent"
	"resinos/mounts/atomicfile"
	"resinos/services/notify"
	"resinos/services/settings"
)

// How long devd stays when nothing happens: after it has looked at all devices, of which some report themselves later,
// and after a few events. PID 1 keeps the socket of events and the power buttons (devd.toml: listen, fd-store), and
// starts devd again when something comes.
const idleFirst, idleLater = 15 * time.Second, 5 * time.Second

// lifeFile is what a devd that ended because nothing happened leaves for the next one. It says that all devices are
// served, so the next one removes it first: a devd that is killed leaves none, and the one after it looks at all
// devices.
const lifeFile = "/run/resinos/devd.json"

// buttonPrefix is before the name of the node of a power button that PID 1 keeps for devd.
const buttonPrefix = "button-"

// devdLife is one life of devd. What is exported is for the next one.
type devdLife struct {
	Socket   uint64                    // the kernel's number of the socket of events: with another, events were lost
	Screen   string                    // where the link of the screen led
	Settings map[string]settings.Value // which were applied without a fault

	events    *uevent.Listener // nil: PID 1 has passed none
	continues bool             // all devices were served before, and events has all events since
	done      bool             // nothing is left to do
	stays     atomic.Bool      // a power button could not be left with PID 1
}

// takeLife finds what PID 1 has passed and what the last life has left, and the power buttons by the names of their
// nodes.
func takeLife(inherited []notify.Inherited, log *slog.Logger) (now *devdLife, held map[string]int) {
	now, held = &devdLife{}, map[string]int{}
	for _, in := range inherited {
		if name, is := strings.CutPrefix(in.Name, buttonPrefix); is {
			held[name] = in.FD
			continue
		}
		cookie, err := unix.GetsockoptUint64(in.FD, unix.SOL_SOCKET, unix.SO_COOKIE)
		if err == nil {
			now.events, err = uevent.Inherit(in.FD)
		}
		if err != nil {
			log.Warn("events not taken over, devd stays", "error", err)
			continue
		}
		now.resume(lifeFile, cookie)
	}
	return now, held
}

func (l *devdLife) idle() time.Duration {
	if l.continues {
		return idleLater
	}
	return idleFirst
}

// resume takes what the last life left in file, if it had the same socket.
func (l *devdLife) resume(file string, cookie uint64) {
	text, err := os.ReadFile(file)
	if os.Remove(file) == nil && err == nil && json.Unmarshal(text, l) == nil {
		l.continues = l.Socket == cookie
	}
	l.Socket = cookie
}

// applied takes the settings in force, if all of them could be applied: the next life tries the others again.
func (l *devdLife) applied(h *hardwareSettings, fault error) {
	l.Settings = nil
	if fault != nil {
		return
	}
	l.Settings = map[string]settings.Value{}
	for _, key := range h.keys() {
		if v, set := h.last.Values[key]; set {
			l.Settings[key] = v
		}
	}
}

// leave writes what the next life needs, if this one has done everything.
func (l *devdLife) leave(log *slog.Logger) {
	if !l.done {
		return
	}
	text, err := json.Marshal(l)
	if err == nil {
		err = atomicfile.Write(lifeFile, text, 0o600)
	}
	if err != nil {
		log.Warn("next devd will look at all devices", "error", err)
	}
}

// keepButton leaves power buttons with PID 1, which starts devd when one is pressed.
func (l *devdLife) keepButton(log *slog.Logger) func(string, int) {
	return func(name string, fd int) {
		if err := notify.Keep(buttonPrefix+name, fd); err != nil {
			l.stays.Store(true)
			log.Warn("power button not kept, devd stays", "path", name, "error", err)
		}
	}
}

func dropButton(log *slog.Logger) func(string) {
	return func(name string) {
		if err := notify.Drop(buttonPrefix + name); err != nil {
			log.Warn("power button not dropped", "path", name, "error", err)
		}
	}
}
