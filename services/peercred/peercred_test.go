package peercred

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	cred, err := Of(server)
	if err != nil || int(cred.Pid) != os.Getpid() || int(cred.Uid) != os.Getuid() || int(cred.Gid) != os.Getgid() {
		t.Errorf("peer = %+v, %v", cred, err)
	}
	server.Close()
	if cred, err := Of(server); err == nil || cred.Uid == 0 {
		t.Errorf("peer of a closed connection = %+v", cred)
	}
	if cred, err := OfFD(-1); err == nil || cred.Uid == 0 {
		t.Errorf("peer of no descriptor = %+v", cred)
	}
}
