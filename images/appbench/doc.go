// Package appbench compares containers on our engine with Debian's Docker engine, natively on this host: starts, pulls,
// memory, processor time at rest, requests through a published port, and names.
//
// It owns the two worlds (namespaces in which each of them runs alone), the rounds, and the table. It asserts nothing,
// and CI does not run it: make bench-apps does, and docs/bench.md holds the results. Read TestAppBench first.
package appbench
