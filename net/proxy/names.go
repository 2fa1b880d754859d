package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The limits on name questions.
const (
	mostQuestions = 64               // at once; what comes beyond is dropped, like a lost packet
	patience      = 10 * time.Second // for one answer
	idle          = 30 * time.Second // without a question, after which the connection with the name server ends
	header        = 12               // bytes of the head of a message of DNS
	small, large  = 512, 1232        // bytes of an answer over UDP: without EDNS, and with
)

// names answers name questions that arrive over UDP.
type names struct {
	ask     *asker // nil: every answer is "ask over TCP"
	running sync.WaitGroup
}

// serve answers the questions of a socket until it is closed.
func (n *names) serve(ctx context.Context, c *net.UDPConn) {
	slots := make(chan struct{}, mostQuestions)
	buf, from := make([]byte, large), make([]byte, unix.CmsgSpace(unix.SizeofInet6Pktinfo))
	for {
		size, oob, _, client, err := c.ReadMsgUDPAddrPort(buf, from)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		question, ok := questionOf(buf[:size])
		if err != nil || !ok {
			continue
		}
		// The answer leaves from the address that the question came to: its control message says it.
		local := append([]byte(nil), from[:oob]...)
		reply := func(answer []byte) { _, _, _ = c.WriteMsgUDPAddrPort(answer, local, client) } // the client asks again
		if n.ask == nil {
			reply(truncated(question))
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		whole := append([]byte(nil), buf[:size]...)
		n.running.Go(func() {
			defer func() { <-slots }()
			if answer, err := n.ask.ask(ctx, whole); err == nil {
				reply(fitting(answer, question, whole))
			}
		})
	}
}

// questionOf returns the head and the first question of a message; ok is whether it is a question.
func questionOf(message []byte) (question []byte, ok bool) {
	const typeAndClass = 4
	if len(message) < header || message[2]&0x80 != 0 || binary.BigEndian.Uint16(message[4:]) != 1 {
		return nil, false
	}
	at := header
	for at < len(message) && message[at] != 0 {
		if message[at] > 63 {
			return nil, false
		}
		at += 1 + int(message[at])
	}
	at += 1 + typeAndClass
	if at > len(message) {
		return nil, false
	}
	return append([]byte(nil), message[:at]...), true
}

// truncated is the answer to a question which says: ask over TCP (RFC 1035, 4.1.1: QR, TC; RA).
func truncated(question []byte) []byte {
	answer := append([]byte(nil), question...)
	answer[2] |= 0x80 | 0x02
	answer[3] = 0x80
	copy(answer[6:header], make([]byte, 6)) // no other sections
	return answer
}

// fitting returns the answer, or that the client has to ask over TCP because it does not fit into a packet.
func fitting(answer, question, asked []byte) []byte {
	limit := small
	if binary.BigEndian.Uint16(asked[10:]) > 0 { // additional records: EDNS
		limit = large
	}
	if len(answer) > limit {
		return truncated(question)
	}
	return answer
}

// asker asks a name server over one connection, on which several questions are on their way at once (RFC 7766).
type asker struct {
	dial func(ctx context.Context) (net.Conn, error)

	dialing sync.Mutex // held while a connection is made
	mu      sync.Mutex // guards what follows
	conn    net.Conn   // nil: none
	next    uint16
	waiting map[uint16]chan []byte // closed when the connection breaks
	readers sync.WaitGroup
}

var errNoAnswer = errors.New("the name server ended the connection")

// ask returns the answer to a question. A connection that has been unused may have ended: then a new one is asked too.
func (a *asker) ask(ctx context.Context, question []byte) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for range 2 {
		if answer, err = a.try(ctx, question); !errors.Is(err, errNoAnswer) {
			return answer, err
		}
	}
	return nil, err
}

func (a *asker) try(ctx context.Context, question []byte) ([]byte, error) {
	conn, err := a.connection(ctx)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	if a.conn != conn {
		a.mu.Unlock()
		return nil, errNoAnswer
	}
	for a.waiting[a.next] != nil {
		a.next++
	}
	id, answers := a.next, make(chan []byte, 1)
	a.next++
	a.waiting[id] = answers
	message := binary.BigEndian.AppendUint16(nil, uint16(len(question)))
	message = append(binary.BigEndian.AppendUint16(message, id), question[2:]...)
	_ = conn.SetDeadline(time.Now().Add(idle)) // it fails if the connection has ended, and so does the write
	_, err = conn.Write(message)
	a.mu.Unlock()
	if err != nil {
		conn.Close() // its reader tells all who wait
	}
	select {
	case answer, open := <-answers:
		if !open || len(answer) < header {
			return nil, errNoAnswer
		}
		copy(answer, question[:2])
		return answer, nil
	case <-ctx.Done():
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.conn == conn {
			delete(a.waiting, id)
		}
		return nil, context.Cause(ctx)
	}
}

// connection returns the one that there is, or a new one.
func (a *asker) connection(ctx context.Context) (net.Conn, error) {
	a.dialing.Lock()
	defer a.dialing.Unlock()
	a.mu.Lock()
	conn := a.conn
	a.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	conn, err := a.dial(ctx)
	if err != nil {
		return nil, err
	}
	waiting := map[uint16]chan []byte{}
	a.mu.Lock()
	a.conn, a.waiting = conn, waiting
	a.mu.Unlock()
	a.readers.Go(func() {
		err := a.read(conn)
		a.mu.Lock()
		defer a.mu.Unlock()
		_ = errors.Join(err, conn.Close()) // who waits asks again
		a.conn = nil
		for _, answers := range waiting {
			close(answers)
		}
	})
	return conn, nil
}

// read passes the answers of a connection on until it ends.
func (a *asker) read(conn net.Conn) error {
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return err
		}
		answer := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, answer); err != nil {
			return err
		}
		if len(answer) < header {
			return fmt.Errorf("an answer of %d bytes", len(answer))
		}
		id := binary.BigEndian.Uint16(answer)
		a.mu.Lock()
		if answers := a.waiting[id]; answers != nil {
			delete(a.waiting, id)
			answers <- answer
		}
		a.mu.Unlock()
	}
}

// close ends the connection, and returns when its reader has ended.
func (a *asker) close() {
	a.dialing.Lock() // nobody makes one now
	defer a.dialing.Unlock()
	a.mu.Lock()
	if a.conn != nil {
		a.conn.Close() // its reader tells all who wait
	}
	a.mu.Unlock()
	a.readers.Wait()
}
