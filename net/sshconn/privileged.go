package sshconn

import (
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"

	"resinos/net/sshmsg"
)

// privileged holds this process's sockets to those that have rights: the gate before the login, root's process after
// it.
type privileged struct {
	mu   sync.Mutex // guards all; held from a question to the gate until its answer
	gate *sshmsg.Conn
	root *sshmsg.Conn // nil: nobody has logged in
}

func (p *privileged) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate.Close() // closing twice does no harm
	if p.root != nil {
		p.root.Close()
	}
}

// ask asks the gate.
func (p *privileged) ask(question, answer any, files int) ([]*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gate.Ask(question, answer, files)
}

func (p *privileged) begin() (sshmsg.Begun, error) {
	var b sshmsg.Begun
	_, err := p.ask(sshmsg.Begin{}, &b, 0)
	return b, err
}

func (p *privileged) offer(user string, key ssh.PublicKey) error {
	_, err := p.ask(sshmsg.Offer{User: user, Key: key.Marshal()}, &sshmsg.Done{}, 0)
	return err
}

// enter asks for the login; key is nil if none is needed. The answer brings the socket to root's process.
func (p *privileged) enter(m ssh.ConnMetadata, key ssh.PublicKey) error {
	question := sshmsg.Enter{User: m.User(), Client: string(m.ClientVersion())}
	if key != nil {
		question.Key, question.Signature = key.Marshal(), signature(key)
	}
	files, err := p.ask(question, &sshmsg.Done{}, 1)
	if err != nil {
		return err
	}
	root, err := sshmsg.Take(files[0])
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.root = root
	p.gate.Close() // it is no longer needed
	return nil
}

// signature returns what the client has signed to log in, if key is an ed25519 key; otherwise nil. The library verifies
// the signature and does not give it out. But an ed25519 key is a slice of the packet that it came in, and in the
// packet the signature follows the key (RFC 4252, 7), so it is in the capacity of the slice. TestSignature fails if a
// newer library copies the key.
func signature(key ssh.PublicKey) []byte {
	public, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return nil
	}
	bytes, ok := public.CryptoPublicKey().(ed25519.PublicKey)
	if !ok || key.Type() != ssh.KeyAlgoED25519 {
		return nil
	}
	var follows struct {
		Signature []byte
		Rest      []byte `ssh:"rest"`
	}
	if ssh.Unmarshal(bytes[len(bytes):cap(bytes)], &follows) != nil {
		return nil
	}
	return follows.Signature
}

var errNotLoggedIn = errors.New("nobody has logged in")

// talk opens a socket to root's process for one conversation.
func (p *privileged) talk() (*sshmsg.Conn, error) {
	p.mu.Lock()
	root := p.root
	p.mu.Unlock()
	if root == nil {
		return nil, errNotLoggedIn
	}
	ours, theirs, err := sshmsg.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close() // it is passed on
	if err := root.Send(sshmsg.Talk{}, theirs); err != nil {
		ours.Close() // nobody has the other end
		return nil, err
	}
	return ours, nil
}

// request asks root's process one thing on a socket of its own.
func (p *privileged) request(question, answer any, files int) ([]*os.File, error) {
	talk, err := p.talk()
	if err != nil {
		return nil, err
	}
	defer talk.Close() // it has answered
	return talk.Ask(question, answer, files)
}

// wait returns when root's process has ended, or the sockets are closed.
func (p *privileged) wait() {
	p.mu.Lock()
	root := p.root
	p.mu.Unlock()
	if root != nil {
		root.Receive(1) // root's process sends nothing
	}
}

// signer lets the process that has the host key sign.
type signer struct {
	key  ssh.PublicKey
	gate *privileged
}

// PublicKey returns the public part of the host key.
func (s *signer) PublicKey() ssh.PublicKey { return s.key }

// Sign signs the hash of a key exchange.
func (s *signer) Sign(_ io.Reader, hash []byte) (*ssh.Signature, error) {
	var signed sshmsg.Signed
	ask := s.gate.ask
	s.gate.mu.Lock()
	if s.gate.root != nil {
		ask = s.gate.request
	}
	s.gate.mu.Unlock()
	if _, err := ask(sshmsg.Sign{Hash: hash}, &signed, 0); err != nil {
		return nil, err
	}
	return &ssh.Signature{Format: signed.Format, Blob: signed.Blob}, nil
}

// tcpOf returns the connection in a file that was passed.
func tcpOf(f *os.File) (halfConn, error) {
	conn, err := net.FileConn(f)
	f.Close() // the connection has a descriptor of its own
	if err != nil {
		return nil, err
	}
	half, ok := conn.(halfConn)
	if !ok {
		conn.Close() // nothing was sent on it
		return nil, errors.New("it is no connection")
	}
	return half, nil
}

// listenersOf returns the listeners in the files that were passed.
func listenersOf(files []*os.File) ([]net.Listener, error) {
	defer sshmsg.CloseAll(files) // the listeners have descriptors of their own
	var list []net.Listener
	for _, f := range files {
		l, err := net.FileListener(f)
		if err != nil {
			for _, l := range list {
				l.Close() // nobody has used it
			}
			return nil, err
		}
		list = append(list, l)
	}
	return list, nil
}
