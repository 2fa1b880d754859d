// Package life owns the life of PID 1 on the real root: signals, the supervisor and its pipes, the control socket, the
// watchdog, and the re-exec that begins the next life when somebody asks for it or a part panics. It never reads
// untrusted bytes, never blocks in a write, and never exits: it degrades and reports it. The steps before it are
// init/boot's, the way down is init/shutdown's. Read PID1 first.
package life
