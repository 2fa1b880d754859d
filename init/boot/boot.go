// Package boot owns the life of PID 1 on the real root: the steps from the first instruction to the supervisor, the time
// line of them, the answer to signals, and the way down to the power switch.
// It never reads a stranger's bytes, never waits for network or time, and never exits: it degrades and says so.
// Read Action and then Steps first.
package boot
