package notification

import (
	"os"

	"resinos/services/notify"
	"resinos/services/supervise/lifecycle"
)

// Note is a message with what was known of its sender when it arrived.
type Note struct {
	From    notify.Sender
	Message notify.Message
	Files   []*os.File // they belong to whoever has the Note

	owner   string // the service in whose cgroup the sender is
	session int    // without cgroups: the session that the sender is in
}

// Close closes the files.
func (n Note) Close() {
	for _, f := range n.Files {
		f.Close() // PID 1 has written nothing to it
	}
}

// Owner finds the service that sent n: its cgroup holds the sender or, without cgroups, the sender is its main process
// or in the session of that. index gives the positions in services.
func (n Note) Owner(index map[string]int, services []lifecycle.Service) (int, bool) {
	if n.From.PID <= 1 {
		return 0, false // from outside our pid namespace, or from PID 1
	}
	if n.owner != "" {
		i, ok := index[n.owner]
		return i, ok && services[i].PID != 0
	}
	for i := range services {
		if pid := services[i].PID; pid != 0 && (pid == n.From.PID || pid == n.session) {
			return i, true
		}
	}
	return 0, false
}

// Inputs lists what the message means for the state of its service, in the order in which it must be applied.
func (n Note) Inputs() []lifecycle.Input {
	var list []lifecycle.Input
	m := n.Message
	if m.Extend > 0 {
		list = append(list, lifecycle.Input{Extend: m.Extend})
	}
	if m.Reloading {
		list = append(list, lifecycle.Input{Reloading: true})
	}
	if m.Ready {
		list = append(list, lifecycle.Input{Event: lifecycle.Ready})
	}
	if m.Watchdog {
		list = append(list, lifecycle.Input{Alive: true})
	}
	if m.Stopping {
		list = append(list, lifecycle.Input{Event: lifecycle.Quits})
	}
	if m.Trigger {
		list = append(list, lifecycle.Input{Event: lifecycle.Sick, Why: "sent WATCHDOG=trigger"})
	}
	return list
}
