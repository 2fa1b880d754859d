// Package powercut proves that a power cut at any moment leaves a disk that the device comes back from.
//
// From a recording of what a device wrote (package recording) it makes the disks that a cut at any moment could have
// left, and has each judged (package judge). Between two flushes a disk may have done any part of what it was asked, in
// any order, and may have torn a write between any two sectors of 512 bytes; a sector is written whole or not at all,
// and a flush is believed. It never boots a state: file systems are checked by the programs that the device itself
// uses, and what makes a device the one it is is read off them. Read Check first, then choices.
package powercut
