package logd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"resinos/services/control"
	"resinos/services/logring"
)

// Query asks the logd behind socket and calls visit for each entry, in order. It returns nil after the last one, or,
// with f.Follow, when ctx is done; otherwise visit's error, a *control.Error if logd refused, or what went wrong.
func Query(ctx context.Context, socket string, f Filter, visit func(logring.Entry) error) error {
	err := query(ctx, socket, f, visit)
	if err == nil || ctx.Err() != nil && f.Follow {
		return nil
	}
	return fmt.Errorf("read log: %w", err)
}

func query(ctx context.Context, socket string, f Filter, visit func(logring.Entry) error) error {
	args, err := json.Marshal(f)
	if err != nil {
		return err
	}
	line, err := json.Marshal(control.Request{Version: control.Version, Op: opLog, Args: args})
	if err != nil {
		return err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return err
	}
	in := bufio.NewReaderSize(conn, 32<<10)
	var long []byte
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			if long = append(long, line...); len(long) > 16*logring.MaxMessage {
				return errors.New("answer has a line without end")
			}
			continue
		}
		if errors.Is(err, io.EOF) {
			return errors.New("logd went away")
		}
		if err != nil {
			return err
		}
		if len(long) > 0 {
			line, long = append(long, line...), nil
		}
		if done, err := take(line, visit); done || err != nil {
			return err
		}
	}
}

// take handles one line of the answer. It reports true for the last.
func take(line []byte, visit func(logring.Entry) error) (done bool, err error) {
	if bytes.HasPrefix(line, []byte(`{"seq":`)) {
		var e logring.Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return false, err
		}
		return false, visit(e)
	}
	var r control.Response
	if err := json.Unmarshal(line, &r); err != nil {
		return false, fmt.Errorf("parse answer: %w", err)
	}
	if !r.OK {
		return true, &control.Error{Text: r.Error, Hint: r.Hint}
	}
	return true, nil
}
