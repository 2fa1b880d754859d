package logd

import (
	"bytes"

	"resinos/services/log/entry"
	"resinos/services/log/pipe"
)

// defaultPriority is "informational", for lines that do not say.
const defaultPriority = 6

// A line is one entry's worth of a stream.
type line struct {
	message  []byte // without priority prefix and line end
	priority int
	size     int  // bytes of the stream that it stands for
	cut      bool // the line goes on
	control  bool // says only that the next lines are pid's
	pid      int
}

// nextLine returns the first line of b; ok is false if b does not hold a whole one yet. A line longer than
// entry.MaxMessage is cut there. With flush, what is left without a line end is taken as a cut line. With control,
// the control lines of package pipe are told apart; one also ends what stands before it without a line end.
func nextLine(b []byte, flush, control bool) (l line, ok bool) {
	head := b[:min(len(b), entry.MaxMessage+1)]
	if end := bytes.IndexByte(head, '\n'); end >= 0 {
		at, pid, found := 0, 0, false
		if control {
			at, pid, found = pipe.FindPID(head[:end])
		}
		switch {
		case found && at == 0:
			return line{size: end + 1, control: true, pid: pid}, true
		case found:
			l = line{message: head[:at], size: at}
		default:
			l = line{message: bytes.TrimSuffix(head[:end], []byte("\r")), size: end + 1}
		}
	} else if len(head) > entry.MaxMessage {
		n := entry.MaxMessage
		if mark := bytes.LastIndexByte(head[n-pipe.MaxPIDLine:n], 1); control && mark >= 0 {
			n += mark - pipe.MaxPIDLine // keeps a control line whole
		}
		l = line{message: head[:n], size: n, cut: true}
	} else if flush && len(head) > 0 {
		l = line{message: head, size: len(head), cut: true}
	} else {
		return line{}, false
	}
	l.priority, l.message = splitPriority(l.message)
	return l, true
}

// splitPriority takes the prefix of sd-daemon(3), <0> to <7>, off a line.
func splitPriority(b []byte) (int, []byte) {
	if len(b) >= 3 && b[0] == '<' && b[1] >= '0' && b[1] <= '7' && b[2] == '>' {
		return int(b[1] - '0'), b[3:]
	}
	return defaultPriority, b
}
