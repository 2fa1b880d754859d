package wpa

import (
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"resinos/mounts/testenv"
)

// A reply that comes too late is never taken for that to another command: the connection ends.
func TestLateReply(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() // ends the supplicant below
	var peer *net.UnixAddr
	asked := make(chan string)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFromUnix(buf)
			if err != nil {
				close(asked)
				return
			}
			peer = from
			if string(buf[:n]) == "ATTACH" {
				_, _ = conn.WriteToUnix([]byte("OK\n"), from) // the client may have ended
				continue
			}
			asked <- string(buf[:n])
		}
	}()
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.patient = time.Millisecond
	result := make(chan error, 1)
	go func() {
		_, err := c.Request(t.Context(), "STATUS")
		result <- err
	}()
	testenv.Receive(t, "the command", asked)
	if err := testenv.Receive(t, "its end", result); err == nil {
		t.Fatal("a command without a reply has succeeded")
	}
	_, _ = conn.WriteToUnix([]byte("late\n"), peer) // nobody is there
	if reply, err := c.Request(t.Context(), "PING"); err == nil {
		t.Errorf("the reply to PING is %q", reply)
	} else if !errors.Is(err, net.ErrClosed) {
		t.Errorf("the next command: %v", err)
	}
	for range c.Events() { // ends: whoever serves them connects again
	}
}
