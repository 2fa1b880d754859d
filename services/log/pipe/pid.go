package pipe

import (
	"bytes"
	"strconv"
)

// pidMark begins a control line. Programs do not print it, and one that does lies about nothing but its own lines.
const pidMark = "\x01pid "

// MaxPIDLine is above the size of a control line.
const MaxPIDLine = 32

// AppendPID appends the control line that says which process writes what follows in the pipe of a service: \x01, "pid
// ", the number, a line end. PID 1 writes it, without waiting, each time it starts the service; logd shows no entry for
// it.
func AppendPID(b []byte, pid int) []byte {
	return append(strconv.AppendInt(append(b, pidMark...), int64(pid), 10), '\n')
}

// FindPID looks for a control line at the end of line, which is without its line end, and returns where it begins.
// There may be something before it: what the former process left without a line end.
func FindPID(line []byte) (at, pid int, ok bool) {
	at = bytes.LastIndexByte(line, pidMark[0])
	if at < 0 {
		return 0, 0, false
	}
	digits, ok := bytes.CutPrefix(line[at:], []byte(pidMark))
	if !ok || len(digits) == 0 || len(digits) > 10 || digits[0] == '+' {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(string(digits), 10, 31)
	return at, int(n), err == nil
}
