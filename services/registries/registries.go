// Package registries reads the owner's settings for registries: logins as docker writes them, mirrors and trust as
// containerd has them in hosts.toml. It owns the form of these files. It never opens a connection, and no error of it
// shows a secret. It knows no registry by name: the caller decides which names stand for the same one. Read Find and
// ReadLogins first.
package registries

import "fmt"

// Default are the directories of the owner's settings; of each file the first that is there counts.
const Default = "/mnt/data/registries,/mnt/boot/registries"

// maxSettings bounds each file of settings.
const maxSettings = 1 << 20

// Fault is a fault in one of the owner's files.
type Fault struct {
	File string
	Err  error
}

// Error names the file.
func (f Fault) Error() string { return fmt.Sprintf("read %s: %v", f.File, f.Err) }

// Unwrap returns the fault.
func (f Fault) Unwrap() error { return f.Err }
