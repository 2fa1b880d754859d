// Package notify owns the sd_notify protocol: the datagram socket on which services report that they are ready, and the
// few lines with which our own daemons do that. It never believes a pid in a message, only the one from the kernel, and
// never decides what a message leads to. Read Message first.
package notify

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MaxSize limits a message; a longer datagram is dropped.
const MaxSize = 4096

// Message is one datagram, decoded.
type Message struct {
	Ready     bool
	Reloading bool
	Stopping  bool
	Watchdog  bool   // WATCHDOG=1: it works
	Trigger   bool   // WATCHDOG=trigger: it asks to be treated as hung
	Status    string // one line for people; HasStatus distinguishes an empty one from none
	HasStatus bool
	MainPID   int           // 0 if missing
	Extend    time.Duration // EXTEND_TIMEOUT_USEC; 0 if missing
	FDStore   bool          // keep the descriptors of this message
	FDRemove  bool          // close those kept under FDName
	FDName    string        // empty if missing
	Barrier   bool          // the sender waits until everything before is processed
	Ignored   []error       // one for each ignored line: an unknown name, or an invalid value
}

// Parse decodes the text of one datagram: lines NAME=value. It ignores, line by line, what it cannot use, as
// sd_notify(3) demands: a service with one odd line is up all the same. It fails only on a text that is too long.
func Parse(text string) (Message, error) {
	var m Message
	if len(text) > MaxSize {
		return m, errors.New("parse notification: longer than 4096 bytes")
	}
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		err := errors.New("no NAME=value")
		if ok && name != "" {
			err = m.assign(name, value)
		}
		if err != nil {
			m.Ignored = append(m.Ignored, fmt.Errorf("%q: %w", clip(printable(line)), err))
		}
	}
	return m, nil
}

func (m *Message) assign(name, value string) error {
	switch name {
	case "READY":
		return flag(&m.Ready, value)
	case "RELOADING":
		return flag(&m.Reloading, value)
	case "STOPPING":
		return flag(&m.Stopping, value)
	case "WATCHDOG":
		if value == "trigger" { // the opposite of WATCHDOG=1
			m.Trigger = true
			return nil
		}
		return flag(&m.Watchdog, value)
	case "STATUS":
		m.Status, m.HasStatus = printable(value), true
	case "MAINPID":
		return m.mainPID(value)
	case "EXTEND_TIMEOUT_USEC":
		return m.extend(value)
	case "FDSTORE":
		return flag(&m.FDStore, value)
	case "FDSTOREREMOVE":
		return flag(&m.FDRemove, value)
	case "FDNAME":
		return m.fdName(value)
	case "BARRIER":
		return flag(&m.Barrier, value)
	case "FDPOLL", "MONOTONIC_USEC", "ERRNO", "BUSERROR", "EXIT_STATUS", "NOTIFYACCESS":
		// Known to the protocol but without effect here: stored descriptors are never polled, and a service cannot
		// decide who may send for it.
	default:
		return errors.New("no known name")
	}
	return nil
}

func (m *Message) mainPID(value string) error {
	pid, err := strconv.ParseInt(value, 10, 32)
	if err != nil || pid <= 1 {
		return fmt.Errorf("%q is no pid of a service", clip(value))
	}
	m.MainPID = int(pid)
	return nil
}

func (m *Message) extend(value string) error {
	us, err := strconv.ParseInt(value, 10, 64)
	if err != nil || us <= 0 || us > int64(24*time.Hour/time.Microsecond) {
		return fmt.Errorf("%q is no time from 1 us to a day", clip(value))
	}
	m.Extend = time.Duration(us) * time.Microsecond
	return nil
}

// fdName accepts what may be in LISTEN_FDNAMES, where a colon separates the names.
func (m *Message) fdName(value string) error {
	odd := strings.IndexFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' })
	if value == "" || len(value) > 255 || odd >= 0 {
		return fmt.Errorf("%q is no name of 1 to 255 letters without a colon", clip(value))
	}
	m.FDName = value
	return nil
}

func flag(to *bool, value string) error {
	if value != "1" {
		return fmt.Errorf("%q is not 1", clip(value))
	}
	*to = true
	return nil
}

func clip(s string) string {
	if len(s) > 32 {
		return s[:32]
	}
	return s
}

// printable replaces what could move a terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\uFFFD' {
			return '?'
		}
		return r
	}, s)
}
