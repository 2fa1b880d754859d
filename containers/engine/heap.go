package main

import (
	"time"

	"resinos/services/footprint"
)

// rushLimit is the heap, in bytes, that may grow without a collection at the start of this process: a collection costs
// the first container more time than the memory is worth.
const rushLimit = 36 << 20

// calmLimit is the heap, in bytes, near which garbage is collected more often later; no bound, image pulls may pass it.
const calmLimit = 64 << 20

// rests are what the heap is held to once the start is over. By calls and not by GOGC: the shim and crun inherit the
// environment.
var rests = []footprint.Rest{
	// The idle daemon stays small (measured: 8 MB private instead of 15).
	{After: 20 * time.Second, Percent: 50, Limit: calmLimit},
	// What the first containers took is given back, too.
	{After: time.Minute, Percent: 25, Limit: calmLimit},
}
