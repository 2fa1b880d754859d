package spool

import (
	"bytes"

	"resinos/services/log/entry"
	"resinos/services/log/pipe"
)

// defaultPriority is "informational", for lines that do not say.
const defaultPriority = 6

// A Line is one entry's worth of a stream.
type Line struct {
	Message  []byte // without priority prefix and line end
	Priority int
	Size     int  // bytes of the stream that it stands for
	Cut      bool // the line goes on
	Control  bool // says only that the next lines are pid's
	PID      int
}

// nextLine returns the first line of b; ok is false if b does not hold a whole one yet. A line longer than
// entry.MaxMessage is cut there. With flush, what is left without a line end is taken as a cut line. With control,
// the control lines of package pipe are told apart; one also ends what stands before it without a line end.
func nextLine(b []byte, flush, control bool) (l Line, ok bool) {
	head := b[:min(len(b), entry.MaxMessage+1)]
	if end := bytes.IndexByte(head, '\n'); end >= 0 {
		at, pid, found := 0, 0, false
		if control {
			at, pid, found = pipe.FindPID(head[:end])
		}
		switch {
		case found && at == 0:
			return Line{Size: end + 1, Control: true, PID: pid}, true
		case found:
			l = Line{Message: head[:at], Size: at}
		default:
			l = Line{Message: bytes.TrimSuffix(head[:end], []byte("\r")), Size: end + 1}
		}
	} else if len(head) > entry.MaxMessage {
		n := entry.MaxMessage
		if mark := bytes.LastIndexByte(head[n-pipe.MaxPIDLine:n], 1); control && mark >= 0 {
			n += mark - pipe.MaxPIDLine // keeps a control line whole
		}
		l = Line{Message: head[:n], Size: n, Cut: true}
	} else if flush && len(head) > 0 {
		l = Line{Message: head, Size: len(head), Cut: true}
	} else {
		return Line{}, false
	}
	l.Priority, l.Message = splitPriority(l.Message)
	return l, true
}

// splitPriority takes the prefix of sd-daemon(3), <0> to <7>, off a line.
func splitPriority(b []byte) (int, []byte) {
	if len(b) >= 3 && b[0] == '<' && b[1] >= '0' && b[1] <= '7' && b[2] == '>' {
		return int(b[1] - '0'), b[3:]
	}
	return defaultPriority, b
}
