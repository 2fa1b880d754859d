package servicebench

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/peercred"
)

// life is one life of a service: when its first byte came, and its process as this name space numbers it.
type life struct {
	name string
	pid  int
	at   time.Time
}

// kill ends a life by SIGKILL and returns when. A life that ended by itself fails the test, and its number may be
// another process's by now.
func (l life) kill(t *testing.T) time.Time {
	t.Helper()
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", l.pid))
	if err != nil || program != lifeProgram {
		t.Fatalf("%s, pid %d, ended by itself: %q, %v", l.name, l.pid, program, err)
	}
	at := time.Now()
	if err := unix.Kill(l.pid, unix.SIGKILL); err != nil {
		t.Fatalf("kill %s: %v", l.name, err)
	}
	return at
}

// lives watches the services of one guest: each connects when it starts and keeps the connection.
type lives struct {
	came chan life
	over sync.WaitGroup
}

// patience is how long a new life may be awaited.
const patience = 2 * time.Minute

// watch accepts until the listener is closed. One connection a service is kept open, its newest.
func watch(l *net.UnixListener) *lives {
	w := &lives{came: make(chan life, 4096)}
	w.over.Go(func() {
		newest := map[string]net.Conn{}
		defer func() {
			for _, conn := range newest {
				conn.Close()
			}
		}()
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return // closed: the guest is not measured any more
			}
			name, err := bufio.NewReaderSize(conn, 16).ReadString('\n')
			at := time.Now()
			name = strings.TrimSpace(name)
			if err != nil {
				conn.Close() // killed between its connection and its name; its next life will come
				continue
			}
			if old := newest[name]; old != nil {
				old.Close()
			}
			newest[name] = conn
			w.came <- life{name, peer(conn), at}
		}
	})
	return w
}

// peer is the process that connected, in the numbers of this name space: the kernel translates.
func peer(conn *net.UnixConn) (pid int) {
	cred, _ := peercred.Of(conn) // fails only for a closed socket; 0 is no process
	return int(cred.Pid)
}

// next waits for a life: of the named service, or of any.
func (g *guest) next(t *testing.T, name string) life {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		select {
		case l := <-g.lives.came:
			if name == "" || l.name == name {
				return l
			}
		case <-g.ended:
			t.Fatalf("the manager ended while %q was awaited; it said:\n%s", name, g.said())
		case <-limit.C:
			t.Fatalf("no life of %q within %s; it said:\n%s", name, patience, g.said())
		}
	}
}

// all waits until each of n services has lived, and returns their first lives and the moment of the last.
func (g *guest) all(t *testing.T, n int) (map[string]life, time.Time) {
	t.Helper()
	first := map[string]life{}
	for {
		l := g.next(t, "")
		if _, twice := first[l.name]; !twice {
			first[l.name] = l
		}
		if len(first) == n {
			return first, l.at
		}
	}
}

// serviceName is the name of the i-th service, the same under every manager.
func serviceName(i int) string { return fmt.Sprintf("s%03d", i) }
