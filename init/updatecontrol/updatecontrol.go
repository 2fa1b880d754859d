// Package updatecontrol owns what the updater answers on its socket: the operations, their arguments and results as
// types, and a client with a method for each. The protocol is that of services/control: JSON lines, versioned, root
// only. It decides nothing and links none of the updater's code: init/updater serves the operations, osctl uses the
// Client. Read Client first.
package updatecontrol

import (
	"context"

	"resinos/services/control"
)

// SocketPath is the updater's socket. PID 1 listens there, and starts the updater for the first request.
const SocketPath = "/run/resinos/update.sock"

// Service is the name of the updater's service.
const Service = "updater"

// The operations.
const (
	OpInstall  = "install"
	OpProgress = "progress"
	OpConfirm  = "confirm"
	OpRollBack = "roll-back"
)

// Install is the argument of install.
type Install struct {
	Source   string `json:"source"`                   // an absolute path, an http or https URL, or oci://REF
	Plan     bool   `json:"plan,omitempty"`           // check and answer only
	Again    bool   `json:"again,omitempty"`          // also the version that runs, or one that failed here
	Older    bool   `json:"older,omitempty"`          // also an older version
	NoReboot bool   `json:"no_reboot,omitempty"`      // leaves the reboot to somebody else
	Override bool   `json:"override_locks,omitempty"` // reboots also while apps have update locks
}

// Planned is what install is going to do, or would do.
type Planned struct {
	Version string   `json:"version"`
	From    string   `json:"from"`
	Slot    string   `json:"slot"`
	Size    int64    `json:"size"` // bytes of the slot
	Steps   []string `json:"steps"`
}

// Phase is what the updater is at.
type Phase string

// The phases besides those of an installation, which package bundle names.
const (
	Idle   Phase = "idle"
	Switch Phase = "switch" // the variables are being written
	Locked Phase = "locked" // it is installed, and locks of apps delay the reboot
	Done   Phase = "done"   // the next boot tries the slot
	Failed Phase = "failed"
)

// Ended reports whether nothing more comes.
func (p Phase) Ended() bool { return p == Idle || p == Done || p == Failed }

// Progress is how far an installation is. Sizes are bytes.
type Progress struct {
	Phase   Phase  `json:"phase"`
	Version string `json:"version,omitempty"`
	Slot    string `json:"slot,omitempty"`
	Done    int64  `json:"done,omitempty"` // of Total, in this phase
	Total   int64  `json:"total,omitempty"`
	Kept    int64  `json:"kept,omitempty"`    // were in the idle slot already
	Copied  int64  `json:"copied,omitempty"`  // were taken from the slot that runs
	Fetched int64  `json:"fetched,omitempty"` // were read from the bundle
	Error   string `json:"error,omitempty"`
	Hint    string `json:"hint,omitempty"`
	Reboot  bool   `json:"reboot,omitempty"` // the device reboots now
	Locks   string `json:"locks,omitempty"`  // of apps, that delay the reboot
}

// RollBack is the argument of roll-back.
type RollBack struct {
	Plan     bool `json:"plan,omitempty"`
	NoReboot bool `json:"no_reboot,omitempty"`
}

// Client asks the updater. A refusal is a *control.Error.
type Client struct {
	Socket string // empty is SocketPath
}

func (c Client) call(ctx context.Context, op string, args, result any) error {
	socket := c.Socket
	if socket == "" {
		socket = SocketPath
	}
	return control.Call(ctx, socket, op, args, result)
}

// Install begins an installation, and returns when the bundle was found to be for this device.
func (c Client) Install(ctx context.Context, i Install) (Planned, error) {
	var p Planned
	err := c.call(ctx, OpInstall, i, &p)
	return p, err
}

// Progress returns how far the installation is that runs, or ran last.
func (c Client) Progress(ctx context.Context) (Progress, error) {
	var p Progress
	err := c.call(ctx, OpProgress, nil, &p)
	return p, err
}

// Confirm has the device stay with the slot on trial, whatever the checks say.
func (c Client) Confirm(ctx context.Context) error { return c.call(ctx, OpConfirm, nil, nil) }

// RollBack goes back to the other slot. The result says what is done.
func (c Client) RollBack(ctx context.Context, r RollBack) (Planned, error) {
	var p Planned
	err := c.call(ctx, OpRollBack, r, &p)
	return p, err
}
