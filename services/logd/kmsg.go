package logd

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// kernelRecord is one record of /dev/kmsg (Documentation/ABI/testing/dev-kmsg of the kernel):
//
//	6,339,5140900,-;NET: Registered protocol family 10
//	 SUBSYSTEM=net
//
// The first number is facility<<3 | priority; then the record's own sequence number, and µs since the kernel started.
type kernelRecord struct {
	priority, facility int
	seq                uint64
	at                 time.Duration
	tag                string // of a line that a process wrote: "tag: " or "tag[pid]: " in front, taken off the message
	pid                int
	message            []byte
}

var errKmsg = errors.New("not a kernel log record")

func parseKernelRecord(b []byte) (kernelRecord, error) {
	prefix, rest, ok := bytes.Cut(b, []byte(";"))
	fields := strings.Split(string(prefix), ",")
	if !ok || len(fields) < 4 {
		return kernelRecord{}, fmt.Errorf("parse kernel log %.40q: %w", b, errKmsg)
	}
	level, err1 := strconv.ParseUint(fields[0], 10, 16)
	seq, err2 := strconv.ParseUint(fields[1], 10, 63)
	micros, err3 := strconv.ParseUint(fields[2], 10, 53)
	if err := errors.Join(err1, err2, err3); err != nil {
		return kernelRecord{}, fmt.Errorf("parse kernel log %.40q: %w", b, errKmsg)
	}
	message, _, _ := bytes.Cut(rest, []byte("\n")) // what follows are the device's properties
	r := kernelRecord{
		priority: int(level & 7), facility: int(level >> 3), seq: seq,
		at: time.Duration(micros) * time.Microsecond, message: unescape(message),
	}
	if r.facility != 0 {
		r.tag, r.pid, r.message = splitTag(r.message)
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
