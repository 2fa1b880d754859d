// Package bootbench measures a device's boot and its memory beside the least that could do the same: a shell script as PID 1 that starts
// Debian's containerd and crun with one container, on the board's own kernel.
//
// It owns: the disk of that peer, the rounds, and the table. It judges nothing and is no test that CI runs; make bench-boot runs it and
// docs/bench.md keeps what it said. Read TestBootBench first.
package bootbench
