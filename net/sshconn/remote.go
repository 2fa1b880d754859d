package sshconn

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/crypto/ssh"

	"resinos/net/sshmsg"
)

// maxRemotes limits the ports on which the device listens for a client.
const maxRemotes = 16

// bind is an address to listen on, in the client's own words, by which it identifies the connections.
type bind struct {
	Host string
	Port uint32
}

// remotes are the ports on which the device listens for the client (RFC 4254, 7.1). They are open on the loopback
// addresses only, whatever address the client names, as with other servers in their default configuration.
type remotes struct {
	connection *connection
	open       map[bind][]net.Listener
	running    sync.WaitGroup
}

// listen opens a port whose connections are forwarded to the client. The answer is the number of the port if the client
// left it open.
func (r *remotes) listen(ctx context.Context, payload []byte) (answer []byte, ok bool) {
	var b bind
	if ssh.Unmarshal(payload, &b) != nil || b.Port > 0xffff || len(r.open) >= maxRemotes || r.open[b] != nil {
		return nil, false
	}
	asked := b.Port
	port, list, err := r.connection.listenLoopback(asked)
	if err != nil {
		r.connection.log.Warn("port not opened for the client", "error", err)
		return nil, false
	}
	if b.Port = port; asked == 0 {
		answer = ssh.Marshal(struct{ Port uint32 }{b.Port})
	}
	r.open[b] = list
	for _, l := range list {
		r.running.Go(func() {
			r.connection.relay(ctx, l, func(conn net.Conn) (string, []byte) {
				from, _ := netip.ParseAddrPort(conn.RemoteAddr().String()) // it is TCP
				return "forwarded-tcpip", ssh.Marshal(struct {
					Host       string
					Port       uint32
					OriginHost string
					OriginPort uint32
				}{b.Host, b.Port, from.Addr().String(), uint32(from.Port())})
			})
		})
	}
	return answer, true
}

// listenLoopback lets root listen on the loopback addresses, and returns the sockets.
func (c *connection) listenLoopback(asked uint32) (uint32, []net.Listener, error) {
	talk, err := c.gate.talk()
	if err != nil {
		return 0, nil, err
	}
	defer talk.Close() // it has answered
	var listening sshmsg.Listening
	files, err := talk.AskAny(sshmsg.Listen{Port: asked}, &listening)
	if err != nil {
		return 0, nil, err
	}
	list, err := listenersOf(files)
	if err == nil && len(list) == 0 {
		err = errors.New("no address to listen on")
	}
	return listening.Port, list, err
}

// cancel closes a port.
func (r *remotes) cancel(payload []byte) bool {
	var b bind
	if ssh.Unmarshal(payload, &b) != nil || r.open[b] == nil {
		return false
	}
	for _, l := range r.open[b] {
		l.Close() // open connections stay
	}
	delete(r.open, b)
	return true
}

func (r *remotes) close() {
	for _, list := range r.open {
		for _, l := range list {
			l.Close() // the client is gone
		}
	}
	r.running.Wait()
}
