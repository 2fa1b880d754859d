package main

import (
	"net"
	"os"
)

// ready tells the supervisor that this service does its work (sd_notify(3)). Without NOTIFY_SOCKET
// nobody wants to know.
func ready() error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte("READY=1"))
	return err
}
