// Package bootbench compares a device's boot and memory with those of the smallest system that can do the same: a shell
// script as PID 1 that starts Debian's containerd with one container, and crun or runc, on the board's own kernel. It
// also measures when the splash is up, and what it costs the first container (TestSplashBench).
//
// It owns the disk of that peer, the rounds and the table. Its benches assert nothing, and CI skips them: make
// bench-boot and make profile run them, and docs/bench.md holds the results. Read TestBootBench first.
package bootbench
