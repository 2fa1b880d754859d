package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"resinos/services/fault"
	"resinos/services/guard"
	"resinos/services/peercred"
)

// Serve listens on path, replacing whatever was there, and answers until ctx is cancelled. Then it removes the socket,
// waits for the running handlers and returns ctx's cause.
func Serve(ctx context.Context, path string, handlers map[string]Handler, log *slog.Logger) error {
	socket, err := Listen(path)
	if err != nil {
		return fmt.Errorf("serve control: %w", err)
	}
	defer socket.Close()  // nothing was written to it
	defer os.Remove(path) // removed already, unless the listener ends before ctx
	removed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { os.Remove(path); close(removed) }) // the next one to listen removes it too
	defer func() {
		if !stop() {
			<-removed
		}
	}()
	return Server{Socket: socket, Handlers: handlers, Log: log}.Run(ctx)
}

// Listen creates the socket at path, replacing whatever was there. Who finds a socket there is not refused: it has
// another name until it listens, and no other user may connect. The caller closes it, or passes it on over a re-exec:
// clients are then queued.
func Listen(path string) (*os.File, error) {
	young := path + "~"
	if err := os.Remove(young); err != nil && !errors.Is(err, os.ErrNotExist) { // of one that was killed
		return nil, err
	}
	if err := fault.Call("control listen"); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: young, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close() // the file has a descriptor of its own
	if err := errors.Join(os.Chmod(young, 0o600), os.Rename(young, path)); err != nil {
		return nil, errors.Join(err, os.Remove(young))
	}
	return l.File()
}

// Server answers on an existing socket.
type Server struct {
	Socket   *os.File // from Listen; it stays open and belongs to the caller
	Handlers map[string]Handler
	Log      *slog.Logger
	Guard    *guard.Guard // informed of a panic in a handler or for a client; nil does not catch it
}

// Run answers until ctx is cancelled; then it waits for the running handlers and returns ctx's cause.
func (s Server) Run(ctx context.Context) error {
	own, err := net.FileListener(s.Socket)
	if err != nil {
		return fmt.Errorf("serve control: %w", err)
	}
	l, isUnix := own.(*net.UnixListener)
	if !isUnix {
		own.Close()
		return fmt.Errorf("serve control: %s is no unix socket", own.Addr())
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	work := &server{handlers: s.Handlers, log: s.Log, guard: s.Guard, all: NewClients(maxClients)}
	defer work.clients.Wait()
	for {
		conn, err := accept(l)
		if ctx.Err() != nil {
			if conn != nil {
				conn.Close() // it was not served
			}
			return context.Cause(ctx)
		}
		if err != nil {
			// Out of descriptors or memory: clients that are being served continue, the next attempt waits.
			s.Log.Warn("accept control client", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		work.admit(ctx, conn)
	}
}

func accept(l *net.UnixListener) (*net.UnixConn, error) {
	fault.Point("control.accept")
	if err := fault.Call("control accept"); err != nil {
		return nil, err
	}
	return l.AcceptUnix()
}

type server struct {
	handlers map[string]Handler
	log      *slog.Logger
	guard    *guard.Guard
	all      *Clients
	clients  sync.WaitGroup
}

// admit serves the client in a goroutine of its own, or refuses it.
func (s *server) admit(ctx context.Context, conn *net.UnixConn) {
	if cred, err := peercred.Of(conn); err != nil || cred.Uid != 0 {
		s.log.Warn("control client refused", "uid", int32(cred.Uid))
		refuse(conn, &Error{Text: "only root may do this", Hint: "log in as root"})
		return
	}
	client := s.all.Admit(conn)
	if client == nil {
		return
	}
	s.clients.Go(func() {
		defer s.guard.Catch("control client")
		defer client.Leave()
		// an answer in progress is still sent
		stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
		defer conn.Close() // nothing is buffered
		s.talk(ctx, client)
	})
}

// talk answers line after line until the client leaves, is idle for too long or breaks the rules.
func (s *server) talk(ctx context.Context, client *Client) {
	conn := client.conn
	in := bufio.NewScanner(conn)
	in.Buffer(make([]byte, 0, 1024), MaxRequest)
	for ctx.Err() == nil {
		conn.SetReadDeadline(time.Now().Add(idleTime))
		if ctx.Err() != nil || !in.Scan() {
			break
		}
		if len(bytes.TrimSpace(in.Bytes())) == 0 {
			continue
		}
		if !client.Asks() {
			return
		}
		r, err := DecodeRequest(in.Bytes())
		var line []byte
		if err == nil {
			line = s.handle(ctx, r)
		} else {
			line = encode(nil, err)
		}
		conn.SetWriteDeadline(time.Now().Add(idleTime))
		if _, werr := conn.Write(line); werr != nil || err != nil {
			return
		}
		client.Waits()
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		conn.SetWriteDeadline(time.Now().Add(idleTime))
		conn.Write(encode(nil, &Error{Text: "request is longer than 64 KiB"})) // the connection ends in any case
	}
}

func (s *server) handle(ctx context.Context, r Request) []byte {
	h, ok := s.handlers[r.Op]
	if !ok {
		ops := make([]string, 0, len(s.handlers))
		for op := range s.handlers {
			ops = append(ops, op)
		}
		slices.Sort(ops)
		return encode(nil, &Error{Text: "no operation " + r.Op, Hint: "known: " + strings.Join(ops, ", ")})
	}
	ctx, cancel := context.WithTimeout(ctx, workTime)
	defer cancel()
	fault.Point("control.handle")
	return encode(h(ctx, r.Args))
}

// Call sends one request and decodes its result into result, which may be nil. A refusal by the other side is an
// *Error. Without a deadline in ctx it waits as long as the server may work.
func Call(ctx context.Context, path, op string, args, result any) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("call %s: %w", op, err)
	}
	defer conn.Close() // the answer has been read
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	req := Request{Version: Version, Op: op}
	if args != nil {
		if req.Args, err = json.Marshal(args); err != nil {
			return fmt.Errorf("call %s: %w", op, err)
		}
	}
	line, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("call %s: %w", op, err)
	}
	// A server that is full has sent that and closed before it has read the request: its answer counts, not the failed
	// write.
	_, sent := conn.Write(append(line, '\n'))
	if err := receive(conn, result); err != nil {
		if refused := new(Error); sent != nil && !errors.As(err, &refused) {
			err = sent
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("call %s: %w", op, err)
	}
	return nil
}

func receive(conn net.Conn, result any) error {
	in := bufio.NewScanner(conn)
	in.Buffer(nil, MaxResponse)
	if !in.Scan() {
		if err := in.Err(); err != nil {
			return err
		}
		return errors.New("the other side closed without an answer")
	}
	var r Response
	if err := json.Unmarshal(in.Bytes(), &r); err != nil {
		return fmt.Errorf("decode response: %w", err)
	}
	if !r.OK {
		return &Error{Text: r.Error, Hint: r.Hint}
	}
	if result == nil || len(r.Result) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Result, result); err != nil {
		return fmt.Errorf("decode result: %w", err)
	}
	return nil
}
