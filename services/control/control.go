// Package control owns the local protocol of PID 1's operators: JSON lines over a Unix socket, one request and one
// response each, for root only. It limits everything that a client can make it hold: lines, clients, time. It never
// knows what an operation means; handlers are passed in. Read Request first.
package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// SocketPath is PID 1's control socket on the device.
const SocketPath = "/run/resinos/control.sock"

// Version is the version of the protocol; both sides send it and refuse any other.
const Version = 1

// The limits of the server.
const (
	MaxRequest  = 64 << 10         // bytes in the line of a request
	MaxResponse = 16 << 20         // bytes that a client accepts in the line of a response
	maxClients  = 32               // further clients are asked to try again
	idleTime    = 10 * time.Second // time to send a request or to receive a response
	workTime    = 5 * time.Minute  // for a handler
)

// Request is one line from a client.
type Request struct {
	Version int             `json:"version"`
	Op      string          `json:"op"`
	Args    json.RawMessage `json:"args,omitempty"`
}

// Response is the one line that answers a request: Result if OK, else Error and perhaps a Hint, which the operator can
// type.
type Response struct {
	Version int             `json:"version"`
	OK      bool            `json:"ok"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   string          `json:"error,omitempty"`
	Hint    string          `json:"hint,omitempty"`
}

// Handler carries out one operation. Its result is sent as JSON. ctx ends when the client's time is over or the server
// stops. To give a hint, it returns an *Error.
type Handler func(ctx context.Context, args json.RawMessage) (any, error)

// Error is a refused or failed operation, as the client receives it.
type Error struct {
	Text string
	Hint string // what to type next; may be empty
}

// Error returns the text and the hint.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Text
	}
	return e.Text + "; " + e.Hint
}

// DecodeRequest decodes one line. It fails on a wrong version, an unknown member, a second value after the first, and a
// name that cannot be an operation.
func DecodeRequest(line []byte) (Request, error) {
	var r Request
	if len(line) > MaxRequest {
		return r, errors.New("decode request: longer than 64 KiB")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Request{}, fmt.Errorf("decode request: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Request{}, errors.New("decode request: more than one value on the line")
	}
	if r.Version != Version {
		return Request{}, &Error{
			Text: fmt.Sprintf("decode request: version %d is not spoken here, only %d", r.Version, Version),
			Hint: "use the osctl of this image",
		}
	}
	if !validOp(r.Op) {
		return Request{}, fmt.Errorf("decode request: %.40q is no operation", r.Op)
	}
	return r, nil
}

func validOp(op string) bool {
	for _, c := range []byte(op) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return op != "" && len(op) <= 40
}

// Args decodes a handler's arguments into v. Missing arguments leave v as it is; an unknown member is an error.
func Args(args json.RawMessage, v any) error {
	if len(args) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(args))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("decode arguments: %w", err)
	}
	return nil
}

// encode returns the response line for the result of a handler.
func encode(result any, err error) []byte {
	r := Response{Version: Version, OK: err == nil}
	if err == nil {
		r.Result, err = json.Marshal(result)
	}
	if err != nil {
		var e *Error
		r = Response{Version: Version, Error: err.Error()}
		if errors.As(err, &e) {
			r.Error, r.Hint = e.Text, e.Hint
		}
	}
	line, err := json.Marshal(r)
	if err != nil { // a Response of strings and valid JSON can always be encoded
		line = []byte(`{"version":1,"ok":false,"error":"encode response"}`)
	}
	return append(line, '\n')
}
