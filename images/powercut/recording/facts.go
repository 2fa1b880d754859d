package recording

import (
	"crypto/md5"
	"encoding/hex"
)

// Facts that the judges read off a disk and that promises are about.
const (
	FactMachineID = "machine-id"
	FactHostKey   = "ssh host key"
	FactHostname  = "config.json hostname"
	FactUUID      = "config.json uuid"
	FactKeyfile   = "profile office"
	FactNote      = "note on resin-boot"
	FactOwners    = "owner's files on resin-state" // see ownersFiles
)

// Digest stands for a content in facts, short enough to be printed.
func Digest(content []byte) string {
	sum := md5.Sum(content)
	return hex.EncodeToString(sum[:])
}

// The files of the purge: two of the owner's, in two directories, and the two that say how far it has come:
// a purge begins with the flag gone and the other there, and ends with both.
const (
	NoteFile   = "/cut-note"
	OwnersOne  = "/home/root/.ssh/cut-owner"
	OwnersTwo  = "/var/lib/bluetooth/cut-owner"
	FlagFile   = "/remove_me_to_reset"
	ArmedFile  = "/.purge-armed"
	OwnersBoth = "both"
	OwnersNone = "none"
	OwnersHalf = "half"
	Purging    = "to be purged"
)
