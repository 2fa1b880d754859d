package control

import (
	"net"
	"slices"
	"sync"
)

// Clients limits the clients of a socket. A client with a request is served to its end. If all places are taken, a new
// client gets the place of the client that has been silent for longest: clients that connect and send nothing keep
// nobody out.
type Clients struct {
	max int

	mu     sync.Mutex // guards the rest, and gone and silent of every Client
	count  int
	silent []*Client // in the order in which they fell silent
}

// Client is one admitted connection. It is silent until Asks.
type Client struct {
	conn *net.UnixConn
	of   *Clients
	gone bool // it has left or lost its place
}

// NewClients returns a Clients with places for max clients.
func NewClients(max int) *Clients { return &Clients{max: max} }

// Admit admits conn, or informs the other side that there are too many clients and closes conn: then the result is nil.
func (c *Clients) Admit(conn *net.UnixConn) *Client {
	c.mu.Lock()
	var evicted *Client
	full := c.count >= c.max
	if full && len(c.silent) > 0 {
		evicted = c.silent[0]
		evicted.drop()
		full = false
	}
	var admitted *Client
	if !full {
		admitted = &Client{conn: conn, of: c}
		c.count++
		c.silent = append(c.silent, admitted)
	}
	c.mu.Unlock()
	if evicted != nil {
		tooMany(evicted.conn)
	}
	if admitted == nil {
		tooMany(conn)
	}
	return admitted
}

// Asks reports that the client has sent a request: it keeps its place until Waits or Leave. The result is false if the
// client has lost its place and its connection.
func (c *Client) Asks() bool {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.of.forget(c)
	return !c.gone
}

// Waits reports that the client has its answer and is silent again.
func (c *Client) Waits() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if !c.gone {
		c.of.forget(c)
		c.of.silent = append(c.of.silent, c)
	}
}

// Leave gives the client's place up. The caller still closes the connection.
func (c *Client) Leave() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.drop()
}

// drop takes the client out of the count, once.
func (c *Client) drop() {
	c.of.forget(c)
	if !c.gone {
		c.gone = true
		c.of.count--
	}
}

// forget takes a client from the silent ones.
func (c *Clients) forget(one *Client) {
	if at := slices.Index(c.silent, one); at >= 0 {
		c.silent = slices.Delete(c.silent, at, at+1)
	}
}

// tooMany tells a client that there is no place for it, and closes its connection.
func tooMany(conn *net.UnixConn) {
	refuse(conn, &Error{Text: "too many clients", Hint: "try again"})
}

// refuse tells a client why it is not served, and closes its connection.
func refuse(conn *net.UnixConn, err error) {
	conn.Write(encode(nil, err)) // a fresh socket takes it at once
	conn.Close()
}
