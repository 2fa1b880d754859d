// Package identity owns the identity of a device: its UUID and its machine id, which are created once and never change.
//
// Nothing is returned, and so nothing is published, before it has reached a disk. If one of the two partitions cannot
// keep it, the other is enough, because each id can be derived from the other. An existing id is never changed. Read
// Device first.
package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Identity is the two ids, with 32 hex digits each. A UUID that somebody has set may be longer.
type Identity struct {
	UUID    string
	Machine string
}

// Device is where the two ids are kept:
//
//	uuid        config.json on resin-boot     Known, SaveUUID
//	machine id  a file on resin-state         Kept, SaveMachine
type Device struct {
	Known string // the UUID on resin-boot, empty if there is none
	Kept  string // content of the file with the machine id
	Lasts bool   // the file is on a disk

	SaveMachine func(id string) error // returns when it has reached the disk
	SaveUUID    func(id string) error // the same
	StandIn     func(id string) error // shows a machine id that cannot be kept
	Random      func() (string, error)
}

// Settle returns the identity, and creates and keeps what is missing:
//
//	machine id exists              it stays; a missing UUID is derived from it
//	state lasts                    a random machine id is kept first, then as above
//	state does not, UUID exists    the machine id is derived from the UUID
//	state does not, no UUID        a random UUID is kept first, then as above
//
// A derived UUID need not be kept before it is published: the next boot derives the same. The error says what does not
// last; the identity can still be used unless it is empty.
func (d Device) Settle() (Identity, error) {
	id := Identity{UUID: d.Known, Machine: Valid(d.Kept)}
	var faults []error
	if id.Machine == "" && d.Lasts {
		made, err := d.Random()
		if err == nil {
			err = d.SaveMachine(made)
		}
		if err == nil {
			id.Machine = made
		}
		faults = append(faults, err)
	}
	if id.Machine == "" {
		faults = append(faults, d.settleWithoutState(&id))
	}
	if id.UUID == "" && id.Machine != "" {
		id.UUID = Derive("uuid", id.Machine)
	}
	return id, errors.Join(faults...)
}

func (d Device) settleWithoutState(id *Identity) error {
	var faults []error
	if id.UUID == "" {
		made, err := d.Random()
		if err != nil {
			return err
		}
		id.UUID = made
		if err := d.SaveUUID(made); err != nil {
			faults = append(faults, fmt.Errorf("keep identity: %w; it lasts until the next boot only", err))
		}
	}
	id.Machine = Derive("machine-id", id.UUID)
	return errors.Join(append(faults, d.StandIn(id.Machine))...)
}

// Valid returns the machine id in the content of its file; empty if there is none or only a part of one
// (machine-id(5)).
func Valid(content string) string {
	id := strings.TrimSuffix(content, "\n")
	if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" || strings.Trim(id, "0") == "" {
		return ""
	}
	return id
}

// Derive derives one identifier from another one, which cannot be computed back.
func Derive(what, from string) string {
	sum := sha256.Sum256([]byte("resinOS " + what + " " + from))
	return hex.EncodeToString(sum[:16])
}
