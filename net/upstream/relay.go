package upstream

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"
)

// request reads the first request of a client, and returns it as a proxy server wants it.
func (d Dialer) request(ctx context.Context, client net.Conn, to netip.AddrPort) ([]byte, error) {
	if client == nil {
		return nil, &RefusedError{"a proxy of the type http-relay carries requests only"}
	}
	broken := context.AfterFunc(ctx, func() { _ = client.SetReadDeadline(time.Unix(1, 0)) }) // wakes the read
	head, body, err := readHead(client, "")
	if !broken() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, &RefusedError{"the request of the program " + err.Error()}
	}
	head, ok := relayed(head, to, d.authorization())
	if !ok {
		return nil, &RefusedError{"the program does not speak HTTP, and the proxy nothing else"}
	}
	return append([]byte(head), body...), nil
}

// relayed returns the head of a request with the whole URL in its first line (RFC 9112, section 3.2.2), the login, and
// the demand to end the connection: a second request would come without them.
func relayed(head string, to netip.AddrPort, authorization string) (out string, ok bool) {
	lines := strings.Split(head, "\r\n")
	words := strings.Split(lines[0], " ")
	if len(words) != 3 || words[0] == "" || words[1] == "" || !strings.HasPrefix(words[2], "HTTP/1.") {
		return "", false
	}
	host, fields := to.Addr().String(), ""
	if to.Addr().Is6() {
		host = "[" + host + "]"
	}
	for _, line := range lines[1:] {
		name, value, named := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); strings.ToLower(name) {
		case "connection", "proxy-connection", "keep-alive", "proxy-authorization":
			continue
		case "host":
			if value != "" && !strings.ContainsAny(value, " \t/\\@?#\r\n") {
				host = value
			}
		}
		if !named || strings.ContainsAny(line, "\r\n") {
			return "", false
		}
		fields += line + "\r\n"
	}
	if strings.HasPrefix(words[1], "/") {
		words[1] = "http://" + host + words[1]
	}
	return strings.Join(words, " ") + "\r\n" + fields + authorization +
		"Connection: close\r\nProxy-Connection: close\r\n\r\n", true
}
