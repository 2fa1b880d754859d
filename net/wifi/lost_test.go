package wifi

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"resinos/mounts/testenv"
)

// A radio has joined, and the event that says so is lost: the driver finds out by itself.
func TestEventLost(t *testing.T) {
	dir := t.TempDir()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: filepath.Join(dir, socketFile)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() // ends the supplicant below
	var looks atomic.Int32
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFromUnix(buf)
			if err != nil {
				return
			}
			reply := "OK\n"
			switch command := string(buf[:n]); {
			case command == "INTERFACES":
				reply = radio + "\n"
			case strings.HasSuffix(command, " STATUS") && looks.Add(1) == 1:
				reply = "wpa_state=ASSOCIATED\nssid=home\n"
			case strings.HasSuffix(command, " STATUS"):
				reply = "wpa_state=COMPLETED\nssid=home\nid_str=0 home.nmconnection\n"
			case strings.HasSuffix(command, " LIST_NETWORKS"):
				reply = "network id / ssid / bssid / flags\n"
			}
			_, _ = conn.WriteToUnix([]byte(reply), from) // the driver may have ended
		}
	}()
	states := make(chan map[string]State, 100)
	log := slog.New(slog.NewTextHandler(&testenv.Log{}, nil))
	d := New(Config{Directory: dir, Conf: "conf", Module: "none", Log: log,
		Changed: func(s map[string]State) { states <- s }})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Run(ctx)
	}()
	d.Want(Wanted{Radios: map[string][]Network{radio: nil}})
	for joined := false; !joined; {
		s := testenv.Receive(t, "the state of the radio", states)[radio]
		joined = s.Phase == Joined && s.File == "home.nmconnection"
	}
	stop()
	<-done
}
