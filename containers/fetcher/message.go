package fetcher

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Request asks what the image's name stands for now or, with a blob, for its bytes: then the end of a pipe comes with
// it.
type Request struct {
	ID     int   `json:"id"`
	Blob   *Blob `json:"blob,omitempty"`
	Offset int64 `json:"offset,omitempty"`
}

// Blob is what a registry is asked for: the part of a descriptor that says which bytes, and nothing of where else they
// may lie. An image must not send the device to addresses of its choice.
type Blob struct {
	MediaType string        `json:"media_type,omitempty"`
	Digest    digest.Digest `json:"digest,omitempty"`
	Size      int64         `json:"size,omitempty"`
}

// Reply ends a request. Of a blob it comes when all bytes are in the pipe, or no more will.
type Reply struct {
	ID    int    `json:"id"`
	Name  string `json:"name,omitempty"`
	Found Blob   `json:"found,omitzero"`
	Cause Cause  `json:"cause,omitempty"`
	Text  string `json:"text,omitempty"` // one line for people
}

// Cause is why a request has failed, for the program that decides when to ask again. The empty Cause is success.
type Cause string

// The causes.
const (
	Offline   Cause = "offline"   // the network, a name server or the registry is not there, or has too much to do
	Clock     Cause = "clock"     // the registry's certificate is not valid at the time that the clock shows
	Untrusted Cause = "untrusted" // its certificate is not one that the device trusts
	Denied    Cause = "denied"    // the registry knows the image not, or us not
	NoRange   Cause = "no-range"  // the registry does not send from the offset that it was asked for
	Settings  Cause = "settings"  // the owner's settings cannot be used
	Broken    Cause = "broken"    // the registry does not speak as one
)

// maxMessage bounds a message: a reference, a descriptor and one line are far smaller.
const maxMessage = 64 << 10

// Pair makes a connection: Run gets the one end, as descriptor 3 of its process, and Ask the other.
func Pair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "fetcher")
	ours, err = FromFile(os.NewFile(uintptr(fds[0]), "fetcher"))
	if err != nil {
		_ = theirs.Close() // nobody got it
		return nil, nil, err
	}
	return ours, theirs, nil
}

// FromFile makes a connection of a descriptor, and closes that.
func FromFile(f *os.File) (*net.UnixConn, error) {
	defer f.Close() // the connection has a copy
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use descriptor as a connection: %w", err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close() // it is nothing that we can use
		return nil, fmt.Errorf("use descriptor as a connection: it is a %T", conn)
	}
	return unixConn, nil
}

// send sends one message, with a descriptor unless it is nil.
func send(conn *net.UnixConn, message any, f *os.File) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	var rights []byte
	if f != nil {
		rights = unix.UnixRights(int(f.Fd()))
	}
	_, _, err = conn.WriteMsgUnix(text, rights, nil)
	return err
}

// receive takes the next request and what came with it. The error is io.EOF when the asking process has closed.
func receive(conn *net.UnixConn) (Request, *os.File, error) {
	var q Request
	f, err := next(conn, &q)
	return q, f, err
}

// next takes one message.
func next(conn *net.UnixConn, message any) (*os.File, error) {
	text, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	n, m, _, _, err := conn.ReadMsgUnix(text, rights)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	var f *os.File
	if m > 0 {
		messages, err := unix.ParseSocketControlMessage(rights[:m])
		if err != nil || len(messages) != 1 {
			return nil, fmt.Errorf("read message: %d control messages, %v", len(messages), err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			return nil, fmt.Errorf("read message: %d descriptors, %v", len(fds), err)
		}
		unix.CloseOnExec(fds[0])
		f = os.NewFile(uintptr(fds[0]), "pipe")
	}
	if err := json.Unmarshal(text[:n], message); err != nil {
		closePipe(f)
		return nil, fmt.Errorf("read message: %w", err)
	}
	return f, nil
}
