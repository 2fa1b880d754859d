package logpipe
import "strconv"
func AppendPID(b []byte, pid int) []byte { return append(strconv.AppendInt(append(b, "\x01pid "...), int64(pid), 10), '\n') }
