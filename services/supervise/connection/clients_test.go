package connection

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"resinos/services/demand"
	"resinos/services/proc"
	"resinos/services/spec"
)

// TestAccept: each waiting connection gets one process, no more run than may, and a connection that cannot be served is
// closed and not counted.
func TestAccept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	sp := &spec.Spec{Name: "a"}
	sp.Listen = spec.Listen{Sockets: []spec.Socket{{Network: "unix", Address: path}}, Mode: 0o600, Max: 2}
	sockets, err := demand.Open(sp.Listen, sp.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer demand.Close(sp.Listen, sockets)
	connect := func() net.Conn {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	var c Clients
	pid, broken := 0, false
	a := Acceptor{Spec: sp, Log: slog.New(slog.DiscardHandler), Start: func(conn *os.File) (*proc.Process, error) {
		if broken {
			return nil, errors.New("no process here")
		}
		pid++
		return &proc.Process{Pid: pid}, nil
	}}
	if full := c.Accept(sockets, a); full || c.Len() != 0 {
		t.Errorf("without a connection: full %t, %d processes", full, c.Len())
	}
	for range 3 {
		connect()
	}
	if full := c.Accept(sockets, a); !full || c.Len() != 2 {
		t.Errorf("three connections: full %t, %d processes, want 2", full, c.Len())
	}
	c.Remove(1)
	if full := c.Accept(sockets, a); !full || c.Len() != 2 || pid != 3 {
		t.Errorf("after an end: full %t, %d processes, %d started", full, c.Len(), pid)
	}
	c.Remove(2)
	broken = true
	refused := connect()
	if full := c.Accept(sockets, a); full || c.Len() != 1 {
		t.Errorf("without a process for it: full %t, %d processes", full, c.Len())
	}
	if _, err := refused.Read(make([]byte, 1)); err == nil {
		t.Error("the connection that is not served is still open")
	}
	broken = false
	for range 2 * maxAccept {
		connect()
	}
	sp.Listen.Max = 1000
	if full := c.Accept(sockets, a); full || c.Len() != 1+maxAccept {
		t.Errorf("many connections: full %t, %d processes, want %d", full, c.Len(), 1+maxAccept)
	}
}

// TestSave: the processes are known by their start time.
func TestSave(t *testing.T) {
	var c Clients
	c.Add(&proc.Process{Pid: os.Getpid()})
	list := c.Save()
	if len(list) != 1 || list[0].PID != os.Getpid() || list[0].Birth == 0 {
		t.Errorf("saved %+v", list)
	}
}
