// Package kmsg parses the records of the kernel's log. It opens nothing and keeps nothing. Read Record first.
package kmsg

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Record is one record of /dev/kmsg (Documentation/ABI/testing/dev-kmsg of the kernel):
//
//	6,339,5140900,-;NET: Registered protocol family 10
//	 SUBSYSTEM=net
//
// The first number is facility<<3 | priority; then the record's own sequence number, and µs since the kernel started.
type Record struct {
	Priority, Facility int
	Seq                uint64
	At                 time.Duration // since the kernel started
	// of a line that a process wrote: "tag: " or "tag[pid]: " in front, taken off the message
	Tag     string
	PID     int // as that process says
	Message []byte
}

var errKmsg = errors.New("not a kernel log record")

// Parse reads a record. Its error means that b is none.
func Parse(b []byte) (Record, error) {
	prefix, rest, ok := bytes.Cut(b, []byte(";"))
	fields := strings.Split(string(prefix), ",")
	if !ok || len(fields) < 4 {
		return Record{}, fmt.Errorf("parse kernel log %.40q: %w", b, errKmsg)
	}
	level, err1 := strconv.ParseUint(fields[0], 10, 16)
	seq, err2 := strconv.ParseUint(fields[1], 10, 63)
	micros, err3 := strconv.ParseUint(fields[2], 10, 53)
	if err := errors.Join(err1, err2, err3); err != nil {
		return Record{}, fmt.Errorf("parse kernel log %.40q: %w", b, errKmsg)
	}
	message, _, _ := bytes.Cut(rest, []byte("\n")) // what follows are the device's properties
	r := Record{
		Priority: int(level & 7), Facility: int(level >> 3), Seq: seq,
		At: time.Duration(micros) * time.Microsecond, Message: unescape(message),
	}
	if r.Facility != 0 {
		r.Tag, r.PID, r.Message = splitTag(r.Message)
	}
	return r, nil
}

// unescape undoes the kernel's \xNN for bytes that are not printable ASCII, and for the backslash.
func unescape(b []byte) []byte {
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		if len(b) >= 4 && b[0] == '\\' && b[1] == 'x' {
			if c, err := strconv.ParseUint(string(b[2:4]), 16, 8); err == nil {
				out, b = append(out, byte(c)), b[4:]
				continue
			}
		}
		out, b = append(out, b[0]), b[1:]
	}
	return out
}

// splitTag takes "tag: " or "tag[pid]: " off a line, if it begins with one.
func splitTag(b []byte) (tag string, pid int, message []byte) {
	head, rest, ok := bytes.Cut(b, []byte(": "))
	if !ok {
		return "", 0, b
	}
	name, number, hasPID := strings.Cut(string(head), "[")
	if hasPID {
		n, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 31)
		if err != nil || !strings.HasSuffix(number, "]") {
			return "", 0, b
		}
		pid = int(n)
	}
	if len(name) > 32 || !tagged(name) {
		return "", 0, b
	}
	return name, pid, rest
}

func tagged(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '-' && c != '_') {
			return false
		}
	}
	return name != ""
}
