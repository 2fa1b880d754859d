package pulltest

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Traffic is what a registry has to do with its clients.
type Traffic struct {
	Requests map[string]int // by method and the first part of what is asked for: "GET blobs"
	Sent     int64          // bytes on the line, with TLS and heads, without TCP and IP
	Received int64
	Accepted int // connections
}

// String prints the traffic in one line.
func (t Traffic) String() string {
	var all []string
	sum := 0
	for kind, n := range t.Requests {
		all = append(all, fmt.Sprintf("%d %s", n, kind))
		sum += n
	}
	slices.Sort(all)
	return fmt.Sprintf("%d requests (%s) on %d connections, %d bytes sent, %d received",
		sum, strings.Join(all, ", "), t.Accepted, t.Sent, t.Received)
}

// meter counts traffic.
type meter struct {
	mu  sync.Mutex // guards sum
	sum Traffic
}

func (m *meter) add(f func(*Traffic)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.sum)
}

// Traffic returns what there was since the last call.
func (r *Registry) Traffic() (sum Traffic) {
	r.meter.add(func(t *Traffic) { sum, *t = *t, Traffic{} })
	return sum
}

// request counts a request.
func (m *meter) request(q *http.Request) {
	what := "other"
	for _, part := range []string{"manifests", "blobs"} {
		if strings.Contains(q.URL.Path, "/"+part+"/") {
			what = part
		}
	}
	m.add(func(t *Traffic) {
		if t.Requests == nil {
			t.Requests = map[string]int{}
		}
		t.Requests[q.Method+" "+what]++
	})
}

// metered is a listener whose connections are counted.
type metered struct {
	net.Listener
	meter *meter
}

// Accept accepts a connection.
func (l metered) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.meter.add(func(t *Traffic) { t.Accepted++ })
	return meteredConn{c, l.meter}, nil
}

type meteredConn struct {
	net.Conn
	meter *meter
}

// Read counts what comes.
func (c meteredConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.meter.add(func(t *Traffic) { t.Received += int64(n) })
	return n, err
}

// Write counts what goes.
func (c meteredConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.meter.add(func(t *Traffic) { t.Sent += int64(n) })
	return n, err
}
