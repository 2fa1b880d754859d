package linktest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Serve starts a server in the network namespace of the calling thread, and ends it with the test. network is tcp,
// tcp4, tcp6 or udp, address HOST:PORT. The server sends each TCP client a line with the client's IP address, and then
// what the client sends; it answers each datagram with this line.
func Serve(t testing.TB, network, address string) error {
	if network == "udp" {
		return serveDatagrams(t, address)
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with l
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the client
				defer c.Close()
				fmt.Fprintln(c, c.RemoteAddr().(*net.TCPAddr).IP)
				io.Copy(c, c)
			}()
		}
	}()
	return nil
}

func serveDatagrams(t testing.TB, address string) error {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { c.Close() })
	go func() { // ends with c
		for buf := make([]byte, 100); ; {
			_, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte(from.(*net.UDPAddr).IP.String()+"\n"), from) // the client may have ended
		}
	}()
	return nil
}

// Ask connects from the network namespace of the calling thread, and returns the first line of the server, without
// spaces around it. network and address are as for Serve; it waits for patience at most. A server that ends the
// connection at once says nothing, which is no error.
func Ask(network, address string, patience time.Duration) (answer string, err error) {
	c, err := net.DialTimeout(network, address, patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if network == "udp" {
		if _, err := c.Write([]byte("?")); err != nil {
			return "", err
		}
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSpace(line), nil
}
