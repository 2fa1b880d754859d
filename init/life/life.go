// Package life runs PID 1 after the steps of the boot: signals, the supervisor and its pipes, the control socket, the
// watchdog, and the re-exec that begins the next life when somebody asks for it or a goroutine panics. It never reads
// untrusted bytes, never blocks in a write, and never exits: it degrades and reports it. init/boot carries out the
// boot, init/shutdown the shutdown. Read PID1 first.
package life
