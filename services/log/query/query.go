// Package query owns the questions about the log: their form, the server in logd that answers them, and the client that
// asks them.
//
// The server reads the ring and the directory of earlier boots while logd writes them; a reader may take as long as it
// wants without delaying the log: entries that are overwritten before they are read are counted and reported. The
// package never writes an entry and keeps nothing. Read Filter first, then Server.
package query

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"resinos/services/control"
	"resinos/services/log/entry"
)

// SocketPath is where logd answers on the device.
const SocketPath = "/run/resinos/log.sock"

// Query asks the logd behind socket and calls visit for each entry, in order. It returns nil after the last one, or,
// with f.Follow, when ctx is done; otherwise visit's error, a *control.Error if logd refused, or what went wrong.
func Query(ctx context.Context, socket string, f Filter, visit func(entry.Entry) error) error {
	args, err := json.Marshal(f)
	if err == nil {
		_, err = ask(ctx, socket, control.Request{Version: control.Version, Op: opLog, Args: args}, visit)
	}
	if err == nil || ctx.Err() != nil && f.Follow {
		return nil
	}
	return fmt.Errorf("read log: %w", err)
}

// Boots asks the logd behind socket for the boots whose log is kept, oldest first; the last one is this.
func Boots(ctx context.Context, socket string) ([]Span, error) {
	result, err := ask(ctx, socket, control.Request{Version: control.Version, Op: opBoots},
		func(entry.Entry) error { return nil })
	var list []Span
	if err == nil {
		err = json.Unmarshal(result, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("list boots: %w", err)
	}
	return list, nil
}

// Flush asks the logd behind socket to bring the log to disk, and returns when it is there. It returns a *control.Error
// if the log is not kept there, or cannot be.
func Flush(ctx context.Context, socket string) error {
	_, err := ask(ctx, socket, control.Request{Version: control.Version, Op: opFlush},
		func(entry.Entry) error { return nil })
	if err != nil {
		return fmt.Errorf("flush log: %w", err)
	}
	return nil
}

// ask sends a request and reads the answer: visit gets the entries, result is that of the response.
func ask(ctx context.Context, socket string, r control.Request, visit func(entry.Entry) error) (result json.RawMessage,
	err error) {
	line, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	// A logd that is full has said so and closed before it has read the request: its answer counts, not the failed
	// write.
	_, sent := conn.Write(append(line, '\n'))
	in := bufio.NewReaderSize(conn, 32<<10)
	var long []byte
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			if long = append(long, line...); len(long) > 16*entry.MaxMessage {
				return nil, errors.New("answer has a line without end")
			}
			continue
		}
		if errors.Is(err, io.EOF) && sent == nil {
			return nil, errors.New("logd went away")
		}
		if err != nil {
			return nil, cmp.Or(sent, err)
		}
		if len(long) > 0 {
			line, long = append(long, line...), nil
		}
		if result, done, err := take(line, visit); done || err != nil {
			return result, err
		}
	}
}

// take handles one line of the answer. It reports true for the last, and gives its result.
func take(line []byte, visit func(entry.Entry) error) (result json.RawMessage, done bool, err error) {
	if bytes.HasPrefix(line, []byte(`{"seq":`)) {
		var e entry.Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, false, err
		}
		return nil, false, visit(e)
	}
	var r control.Response
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, false, fmt.Errorf("parse answer: %w", err)
	}
	if !r.OK {
		return nil, true, &control.Error{Text: r.Error, Hint: r.Hint}
	}
	return r.Result, true, nil
}
