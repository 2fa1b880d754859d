// Package powercut proves that a device recovers from a power cut at any moment.
//
// From a recording of the writes of a device (package recording) it creates the disks that a cut at any moment could
// have left, and has each judged (package judge). Between two flushes a disk may have carried out any of the requested
// writes, in any order, and may have torn a write between any two sectors of 512 bytes; a sector is written whole or
// not at all, and a flush is believed. The package never boots a state: it checks file systems with the programs that
// the device itself uses, and reads from them what identifies the device and what its owner has set. Read Check first,
// then choices.
package powercut
