// Package entry owns the form of an entry, one line of the log with its attributes, in memory and as JSON. Read Entry
// first.
package entry

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"resinos/services/log/pipe"
)

// The kinds of the entries that come from the kernel's own log and from syslog(3); the other kinds are those of
// package pipe.
const (
	Kernel = "kernel"
	Syslog = "syslog"
)

// MaxMessage is the longest message of one entry. Longer lines are split by the writer into entries marked Cut.
const MaxMessage = 16 << 10

// An Entry is one line of the log.
type Entry struct {
	Seq      uint64        // counts the entries of this boot from 0
	Boot     string        // the kernel's boot id
	Time     time.Time     // wall clock when the line was taken in, as wrong as the clock was then
	Boottime time.Duration // since the kernel started, suspend included
	Kind     string        // Kernel, Syslog, pipe.Service or pipe.Container
	Name     string        // that of the pipe, or the tag of a line given to the kernel's log or to syslog
	Stream   string        // stdout, stderr, log, kmsg, or syslog's facility
	Priority int           // 0 emergency to 7 debug, as in syslog
	PID      int           // 0 when unknown
	Cut      bool          // the line goes on in the next entry of the same source
	Message  string        // any bytes, without the line end
}

// Source returns the stream the entry came from.
func (e *Entry) Source() pipe.Source {
	return pipe.Source{Kind: e.Kind, Name: e.Name, Stream: e.Stream}
}

// wire is the JSON form. Data replaces Message when the bytes are not UTF-8.
type wire struct {
	Seq      uint64    `json:"seq"`
	Time     time.Time `json:"time"`
	Boottime float64   `json:"boottime"`
	Boot     string    `json:"boot"`
	Kind     string    `json:"kind"`
	Name     string    `json:"name"`
	Stream   string    `json:"stream"`
	Priority int       `json:"priority"`
	PID      int       `json:"pid"`
	Cut      bool      `json:"cut"`
	Message  string    `json:"message"`
	Data     []byte    `json:"data"`
}

// AppendJSON appends the entry's JSON form, one line without its end, to b. It is written by hand because a device
// prints its whole log this way.
func (e *Entry) AppendJSON(b []byte) []byte {
	b = strconv.AppendUint(append(b, `{"seq":`...), e.Seq, 10)
	b = e.Time.UTC().AppendFormat(append(b, `,"time":"`...), "2006-01-02T15:04:05.000000Z07:00")
	b = strconv.AppendFloat(append(b, `","boottime":`...), e.Boottime.Seconds(), 'f', 6, 64)
	b = appendString(append(b, `,"boot":`...), e.Boot)
	b = appendString(append(b, `,"kind":`...), e.Kind)
	b = appendString(append(b, `,"name":`...), e.Name)
	b = appendString(append(b, `,"stream":`...), e.Stream)
	b = strconv.AppendInt(append(b, `,"priority":`...), int64(e.Priority), 10)
	if e.PID != 0 {
		b = strconv.AppendInt(append(b, `,"pid":`...), int64(e.PID), 10)
	}
	if e.Cut {
		b = append(b, `,"cut":true`...)
	}
	if utf8.ValidString(e.Message) {
		b = appendString(append(b, `,"message":`...), e.Message)
	} else {
		b = base64.StdEncoding.AppendEncode(append(b, `,"data":"`...), []byte(e.Message))
		b = append(b, '"')
	}
	return append(b, '}')
}

// MarshalJSON implements json.Marshaler.
func (e *Entry) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil), nil }

// UnmarshalJSON implements json.Unmarshaler.
func (e *Entry) UnmarshalJSON(b []byte) error {
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("parse log entry: %w", err)
	}
	*e = Entry{
		Seq: w.Seq, Boot: w.Boot, Time: w.Time, Boottime: time.Duration(w.Boottime * 1e9).Round(time.Microsecond),
		Kind: w.Kind, Name: w.Name, Stream: w.Stream, Priority: w.Priority, PID: w.PID, Cut: w.Cut, Message: w.Message,
	}
	if w.Data != nil {
		e.Message = string(w.Data)
	}
	return nil
}

// appendString quotes s as JSON. Bytes that are not UTF-8 become U+FFFD; messages with such bytes do not come here.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\t':
			b = append(b, '\\', 't')
		case r < 0x20 || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
