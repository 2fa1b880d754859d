package logpipe

import "strconv"

// AppendPID appends the line with which the writer of a pipe says whose output follows: byte 1,
// "pid ", the number, a line end. Pid 0 is nobody known.
func AppendPID(b []byte, pid int) []byte {
	return append(strconv.AppendInt(append(b, "\x01pid "...), int64(pid), 10), '\n')
}
