// Package powercut proves that a power cut at any moment leaves a disk that the device comes back from.
//
// It owns: the recording of what a device writes (QEMU's blklogwrites below its disk), the disks that a cut at any moment of
// it could have left, and what is judged about them. Between two flushes a disk may have done any part of what it was asked,
// in any order, and may have torn a write between any two sectors of 512 bytes; a sector is written whole or not at all, and a
// flush is believed. It never boots a state: file systems are checked by the programs that the device itself uses, and what
// makes a device the one it is is read off them.
//
// Judges are an interface: whoever brings a new promise (an update, say) brings a judge of a region, or a rule over the facts of
// all. Read Recording first, then Suite and Check.
package powercut
