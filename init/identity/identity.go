// Package identity owns who a device is: its uuid and its machine id, made once and the same ever after.
//
// Nothing is returned, and so nothing is published, before it has reached a disk; and where one of the two disks cannot keep it,
// the other is enough, since each of the two can be derived from the other. It never changes one that is there. Read Device first.
package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Identity is who the device is: 32 hex digits each. A uuid that somebody gave it may be longer.
type Identity struct {
	UUID    string
	Machine string
}

// Device is where the two are kept, and what can be done there.
//
//	uuid        config.json on resin-boot     Known, SaveUUID
//	machine id  a file on resin-state         Kept, SaveMachine
type Device struct {
	Known string // the uuid on resin-boot, empty if there is none
	Kept  string // what the file of the machine id holds
	Lasts bool   // that file is on a disk

	SaveMachine func(id string) error // returns when the disk has it
	SaveUUID    func(id string) error // the same
	StandIn     func(id string) error // shows a machine id that cannot be kept
	Random      func() (string, error)
}

// Settle returns the identity, making and keeping what is missing:
//
//	machine id there               it stays; a missing uuid is derived from it
//	state lasts                    a random machine id is kept first, then as above
//	state does not, uuid there     the machine id is derived from the uuid
//	state does not, no uuid        a random uuid is kept first, then as above
//
// A uuid that is derived need not be kept before it is published: the next boot derives the same. The error says what does not
// last; the identity can be used all the same, unless it is empty.
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

// Valid returns the machine id in the content of its file, empty if there is none or a part of one (machine-id(5)).
func Valid(content string) string {
	id := strings.TrimSuffix(content, "\n")
	if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" || strings.Trim(id, "0") == "" {
		return ""
	}
	return id
}

// Derive makes one identifier of another, which cannot be told from it.
func Derive(what, from string) string {
	sum := sha256.Sum256([]byte("resinOS " + what + " " + from))
	return hex.EncodeToString(sum[:16])
}
