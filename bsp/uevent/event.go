// Package uevent handles the kernel's reports of devices: it loads the module for a device, and gives its node in /dev
// the mode from our table. There is no udev; devtmpfs creates the nodes.
//
// It listens to the kernel only, never to user space, and never renames a device, runs a program or keeps a database.
// Read Run first.
package uevent

import (
	"bytes"
	"errors"
	"strings"
)

// An Event is one message of the kernel about a device.
type Event struct {
	Action    string // "add", "remove", "change", "bind", ...
	Path      string // below /sys
	Subsystem string
	Node      string // name of the device node below /dev, if it has one
	Modalias  string // what kmod matches, if there may be a module for it
	Keys      map[string]string
}

// Parse reads a message of the kernel: "ACTION@PATH", then KEY=VALUE records, each ended by NUL. It refuses messages of
// udev, which begin with "libudev".
func Parse(message []byte) (Event, error) {
	head, rest, _ := bytes.Cut(message, []byte{0})
	action, path, found := strings.Cut(string(head), "@")
	if !found || action == "" || !strings.HasPrefix(path, "/") {
		return Event{}, errors.New("parse uevent: it does not begin with ACTION@PATH")
	}
	e := Event{Action: action, Path: path, Keys: map[string]string{}}
	for record := range bytes.SplitSeq(rest, []byte{0}) {
		key, value, found := strings.Cut(string(record), "=")
		if !found {
			continue // the end, or a record that later kernels may add
		}
		e.Keys[key] = value
	}
	if a := e.Keys["ACTION"]; a != "" && a != action {
		return Event{}, errors.New("parse uevent: it names two actions")
	}
	e.Subsystem, e.Node, e.Modalias = e.Keys["SUBSYSTEM"], e.Keys["DEVNAME"], e.Keys["MODALIAS"]
	return e, nil
}
