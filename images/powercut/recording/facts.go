package powercut

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

// digest stands for a content in facts, short enough to be printed.
func digest(content []byte) string {
	sum := md5.Sum(content)
	return hex.EncodeToString(sum[:])
}
