package query

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"sync"
	"time"

	"resinos/services/control"
	"resinos/services/log/entry"
	"resinos/services/log/pipe"
	"resinos/services/log/ring"
	"resinos/services/peercred"
)

const (
	opLog      = "log"
	opBoots    = "boots"
	opFlush    = "flush"
	maxReaders = 32 // of some 100 kB each
	// askTime is how long a client may take to ask. Once it has, it may take all day to read.
	askTime = 5 * time.Second
	// flushTime is how long a disk may take.
	flushTime = time.Minute

	hintKeep = `it is with "persistentLogging": true in config.json and a data partition; ` +
		`see osctl logs -u logd -p warning`
)

// A Server answers queries. The request is control's. To operation "log" with a Filter the answer is one Entry a line,
// and a control.Response at the end; to "boots" it is a control.Response with a list of Span, and to "flush" an empty
// one when the disk has all that was committed before.
type Server struct {
	listener *net.UnixListener
	store    Store
	log      *slog.Logger
	clients  *control.Clients
	readers  sync.WaitGroup
}

// Listen makes the socket at path, in place of what lies there, for root alone. The caller calls Run, which closes it.
func Listen(path string, store Store, log *slog.Logger) (*Server, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("serve log: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("serve log: %w", err)
	}
	// Until here others may connect; the peer's user id is what keeps them out.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("serve log: %w", err), l.Close())
	}
	return &Server{listener: l, store: store, log: log, clients: control.NewClients(maxReaders)}, nil
}

// Run accepts readers until ctx is done, and returns when the last of them has been left.
func (s *Server) Run(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { s.listener.Close() })()
	defer s.readers.Wait()
	for {
		conn, err := s.listener.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if conn != nil {
				conn.Close()
			}
			return
		case err != nil: // no descriptors or no memory: the readers there are go on
			s.log.Warn("log reader not accepted", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		s.readers.Go(func() { s.admit(ctx, conn) })
	}
}

// admit serves one reader, or tells it why not.
func (s *Server) admit(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	conn.SetDeadline(time.Now().Add(askTime))
	if cred, err := peercred.Of(conn); err != nil || cred.Uid != 0 {
		reply(conn, nil, &control.Error{Text: "only root may read the log", Hint: "log in as root"})
		return
	}
	client := s.clients.Admit(conn)
	if client == nil {
		return
	}
	defer client.Leave()
	in := bufio.NewReaderSize(io.LimitReader(conn, control.MaxRequest), 512)
	question, err := in.ReadBytes('\n')
	if err != nil || !client.Asks() {
		return // gone, too slow, or no line: it gets nothing
	}
	op, filter, err := parseQuery(question)
	var result any
	switch {
	case err != nil:
	case op == opBoots:
		result, err = spans(s.parts())
	case op == opFlush:
		err = s.flush(ctx)
	default:
		err = s.answer(ctx, conn, filter)
	}
	reply(conn, result, err)
}

// parseQuery decodes and checks a request's line.
func parseQuery(line []byte) (op string, f Filter, err error) {
	req, err := control.DecodeRequest(line)
	if err != nil {
		return "", f, err
	}
	if req.Op == opBoots || req.Op == opFlush {
		return req.Op, f, nil
	}
	if req.Op != opLog {
		return "", f, &control.Error{Text: "no operation " + req.Op, Hint: "known: " + opLog + ", " + opBoots + ", " +
			opFlush}
	}
	if err := control.Args(req.Args, &f); err != nil {
		return "", Filter{}, err
	}
	return req.Op, f, f.check()
}

// parts is the store's; what cannot be read is passed over and said.
func (s *Server) parts() []part {
	parts, err := s.store.parts()
	if err != nil {
		s.log.Warn("log of earlier boots cannot be read", "error", err)
	}
	return parts
}

// flush waits for the disk.
func (s *Server) flush(ctx context.Context) error {
	if s.store.Flush == nil {
		return &control.Error{Text: "the log is not kept on disk", Hint: hintKeep}
	}
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	err := s.store.Flush(ctx)
	if err != nil {
		return &control.Error{Text: fmt.Sprintf("flush log: %v", err), Hint: hintKeep}
	}
	return nil
}

func reply(conn net.Conn, result any, err error) {
	r := control.Response{Version: control.Version, OK: err == nil}
	if result != nil && err == nil {
		r.Result, _ = json.Marshal(result) // numbers, strings and times always encode
	}
	if err != nil {
		r.Error = err.Error()
		if e := new(control.Error); errors.As(err, &e) {
			r.Error, r.Hint = e.Text, e.Hint
		}
	}
	line, _ := json.Marshal(r) // strings always encode
	// Whoever does not take it gets none.
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write(append(line, '\n'))
}

// answer sends what the filter wants. With Follow it returns when the client leaves.
func (s *Server) answer(ctx context.Context, conn *net.UnixConn, f Filter) error {
	end := s.store.Ring.Next()
	parts, err := choose(s.parts(), f.Boot)
	if err == nil {
		parts, err = last(parts, f.Last, f.match)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer conn.SetReadDeadline(time.Unix(1, 0))
	conn.SetDeadline(time.Time{})
	if ctx.Err() != nil { // its end has set a deadline that we have just undone
		return context.Cause(ctx)
	}
	wg.Go(func() { // a client that leaves, or says more, is done
		conn.Read(make([]byte, 1))
		cancel()
	})
	out := &sender{ctx: ctx, conn: conn}
	for _, p := range parts {
		if p.live && !f.Follow {
			p.until = end // else a flood would hold the client for ever
		}
		if err := s.send(ctx, out, p, f); err != nil {
			return err
		}
	}
	return nil
}

// send sends one part, and with Follow what comes to the ring.
func (s *Server) send(ctx context.Context, out *sender, p part, f Filter) error {
	rd := p.reader(p.from)
	defer rd.Close()
	rd.Keep, rd.Until = f.match, p.until
	out.rd, out.skipped, out.until = rd, 0, p.until
	if p.live || p.until == math.MaxUint64 {
		out.until = 0
	}
	for {
		if err := out.drain(); err != nil || !f.Follow || !p.live {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.store.Ring.Changed(rd.Seq()):
		}
	}
}

// A sender writes a reader's entries to a client.
type sender struct {
	ctx     context.Context // ends the writing
	conn    *net.UnixConn
	rd      *ring.Reader
	buf     []byte
	skipped uint64
	until   uint64 // what the part holds should reach to here; 0: nobody knows
}

// drain sends all that is committed.
func (o *sender) drain() error {
	var e entry.Entry
	for {
		ok, err := o.rd.Next(&e)
		if err != nil {
			return err
		}
		if lost := o.rd.Skipped - o.skipped; lost > 0 {
			o.skipped = o.rd.Skipped
			o.buf = append(gap(&e, lost).AppendJSON(o.buf), '\n')
		}
		if ok {
			o.buf = append(e.AppendJSON(o.buf), '\n')
		} else if at := o.rd.Seq(); at < o.until { // the ring had lost them before they came to disk
			o.buf = append(gap(&e, o.until-at).AppendJSON(o.buf), '\n')
		}
		if len(o.buf) > 16<<10 || !ok {
			if err := o.flush(); err != nil {
				return err
			}
		}
		if !ok {
			return nil
		}
	}
}

// gap stands for entries that were overwritten before a slow reader came to them.
func gap(next *entry.Entry, lost uint64) *entry.Entry {
	return &entry.Entry{
		Seq: next.Seq, Boot: next.Boot, Time: next.Time, Boottime: next.Boottime, Kind: pipe.Service, Name: "logd",
		Stream: pipe.Log, Priority: 4, Message: fmt.Sprintf("%d entries were gone before they could be read", lost),
	}
}

func (o *sender) flush() error {
	if len(o.buf) == 0 {
		return nil
	}
	_, err := o.conn.Write(o.buf)
	if o.buf = o.buf[:0]; cap(o.buf) > 64<<10 {
		o.buf = nil
	}
	return err
}
