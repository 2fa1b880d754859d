// Package wpa owns the language of wpa_supplicant's control socket: events, replies, values of settings, and a client.
//
// It never decides what to join: net/wifi does. Names of networks, which the supplicant repeats from the air, are bytes
// that anybody may have chosen.
//
// Read first: Client.
package wpa

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Client speaks with one life of the supplicant through its global socket. It is used by one goroutine at a time,
// except for Events.
type Client struct {
	conn    *net.UnixConn
	patient time.Duration // how long a reply may take
	replies chan string
	events  chan Event
	done    chan struct{} // closed by receive
	close   sync.Once
}

// ErrRefused says that the supplicant answered FAIL or does not know the command.
var ErrRefused = errors.New("refused")

const (
	replyTimeout = 10 * time.Second // a supplicant that switches its radio on may take seconds
	eventQueue   = 256
)

// Dial connects to the socket and asks for events. The error wraps fs.ErrNotExist or ECONNREFUSED if nobody listens.
func Dial(ctx context.Context, path string) (*Client, error) {
	// Replies go to an address that is in no directory.
	local := &net.UnixAddr{Net: "unixgram", Name: "@resinos-wpa-" + rand.Text()}
	conn, err := net.DialUnix("unixgram", local, &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		return nil, fmt.Errorf("connect to wpa_supplicant: %w", err)
	}
	c := &Client{conn: conn, patient: replyTimeout, replies: make(chan string, 1),
		events: make(chan Event, eventQueue), done: make(chan struct{})}
	go c.receive()
	if err := c.Do(ctx, "ATTACH"); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the client and waits for its goroutine. Events is closed.
func (c *Client) Close() {
	c.close.Do(func() { c.conn.Close() }) // nobody needs the rest
	<-c.done
}

// Events returns the channel of what happens. When nobody reads it for long, events are lost. It is closed by Close,
// and when the connection fails.
func (c *Client) Events() <-chan Event { return c.events }

// receive separates events from replies.
func (c *Client) receive() {
	defer close(c.done)
	defer close(c.events)
	buf := make([]byte, 1<<16)
	for {
		n, err := c.conn.Read(buf)
		if err != nil {
			return
		}
		if e, is := ParseEvent(buf[:n]); is {
			select {
			case c.events <- e:
			default: // a flood: whoever reads asks for the state anyway
			}
			continue
		}
		select {
		case <-c.replies: // the reply to a request that nobody waits for any more
		default:
		}
		c.replies <- string(buf[:n])
	}
}

// Request sends a command and returns the reply. The error wraps ErrRefused if the supplicant refuses it; no error
// holds the arguments of the command, which may be secrets. Without a reply the connection ends: replies have no
// number, and a late one would be taken for that to the next command, and so on for ever.
func (c *Client) Request(ctx context.Context, command string) (string, error) {
	if strings.ContainsAny(command, "\n\x00") {
		return "", fmt.Errorf("ask wpa_supplicant %s: %w: the command has a line end", verb(command), ErrRefused)
	}
	if _, err := c.conn.Write([]byte(command)); err != nil {
		return "", fmt.Errorf("ask wpa_supplicant %s: %w", verb(command), cause(err))
	}
	timer := time.NewTimer(c.patient)
	defer timer.Stop()
	select {
	case reply := <-c.replies:
		if strings.HasPrefix(reply, "FAIL") || strings.HasPrefix(reply, "UNKNOWN COMMAND") {
			return "", fmt.Errorf("ask wpa_supplicant %s: %w", verb(command), ErrRefused)
		}
		return reply, nil
	case <-ctx.Done():
		c.Close()
		return "", fmt.Errorf("ask wpa_supplicant %s: %w", verb(command), context.Cause(ctx))
	case <-c.done:
		return "", fmt.Errorf("ask wpa_supplicant %s: %w", verb(command), net.ErrClosed)
	case <-timer.C:
		c.Close()
		return "", fmt.Errorf("ask wpa_supplicant %s: no answer in %s", verb(command), c.patient)
	}
}

// Do is a Request whose reply says nothing but OK.
func (c *Client) Do(ctx context.Context, command string) error {
	_, err := c.Request(ctx, command)
	return err
}

// On returns a command for one radio.
func On(link, command string) string { return "IFNAME=" + link + " " + command }

// verb is what of a command may be in a log: its words up to the first that may hold a value.
func verb(command string) string {
	words := strings.Fields(command)
	keep := 1
	if len(words) > 0 && strings.HasPrefix(words[0], "IFNAME=") {
		keep = 2
	}
	if len(words) > keep && words[keep-1] == "SET_NETWORK" {
		keep += 2
	}
	return strings.Join(words[:min(keep, len(words))], " ")
}

// cause drops what net.OpError adds: the addresses.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
