package recovery

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/bsp/update"
)

const (
	pause = 5 * time.Minute // between two tries, and since somebody typed last
	again = time.Minute     // between two looks for who holds the device in recovery
)

// retrier reboots the device when nobody needs it any more.
type retrier struct {
	pause, again time.Duration
	held         func(since time.Duration) (by string)
	say          func(string)
	retry        func() error
}

// run returns when ctx is done, when the device reboots, or when PID 1 does not take the order.
func (r retrier) run(ctx context.Context) error {
	r.say(fmt.Sprintf("recovery: log in on this console, or by ssh on port %d; tries again in %v", sshPort, r.pause))
	told := ""
	for wait := r.pause; ; wait = r.again {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		by := r.held(r.pause)
		if by == "" {
			r.say("recovery: tries again")
			return r.retry()
		}
		if by != told {
			told = by
			r.say("recovery: stays, because " + by)
		}
	}
}

// held says who needs the device as it is.
func held(since time.Duration) (by string) {
	switch {
	case connected("/proc/net/tcp", sshPort) || connected("/proc/net/tcp6", sshPort):
		return "somebody is logged in by ssh"
	case update.Held(update.WritingPath):
		return "an update is being installed"
	case typed("/sys/class/tty/console/active", "/dev", time.Now().Add(-since)):
		return "somebody types on a console"
	}
	return ""
}

// sshPort is sshd's.
const sshPort = 22222

// connected reports whether a table of the kernel (proc_net_tcp.rst) has an established connection to a port of this
// device. Without a table there is none: the device rather tries once too often.
func connected(table string, port int) bool {
	f, err := os.Open(table)
	if err != nil {
		return false
	}
	defer f.Close() // nothing was written
	const established = "01"
	local := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// sl, local address, remote address, state
		words := strings.Fields(lines.Text())
		if len(words) > 3 && strings.HasSuffix(words[1], local) && words[3] == established {
			return true
		}
	}
	return false
}

// typed reports whether somebody has typed on a console after a time. The kernel notes reads of a terminal in its node,
// within eight seconds (tty_update_time).
func typed(active, dir string, after time.Time) bool {
	text, err := os.ReadFile(active)
	if err != nil {
		return false
	}
	for _, name := range strings.Fields(string(text)) {
		if name == "tty0" {
			name = "tty1" // the screen in front, on which getty is
		}
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, name), &st) == nil && time.Unix(st.Atim.Unix()).After(after) {
			return true
		}
	}
	return false
}
