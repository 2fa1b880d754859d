// Package sshaccess decides who may log in over ssh. It informs the process of a connection whether the client needs a
// key, whether its key is listed, and whether the client has proved that it has the key. Before the login, only this
// package signs with the host key.
//
// The process that asks is in contact with strangers, so the package believes nothing that it can verify itself. For
// ed25519 keys it verifies the client's signature over the session that it signed itself, so that whoever takes over
// the process of a connection still cannot log in. For keys of all other kinds (RSA, ECDSA, keys in hardware) the
// library (golang.org/x/crypto/ssh) does not give the signature out (sshconn.signature). For these the gate verifies
// only that the key is listed, and trusts the process that the client has the key. An owner who lists only ed25519 keys
// does not depend on that.
//
// Read first: Gate, then Serve, then enter.
package sshaccess

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/crypto/ssh"

	"resinos/net/sshmsg"
)

// Gate answers the questions of a connection that has not logged in.
type Gate struct {
	HostKey ssh.Signer
	// root needs neither password nor key, unless Settings name keys or the client is this device itself
	NoAuth   bool
	Settings string // the file with the owner's settings, which list keys; empty: there are none
	Remote   net.Addr
	Local    net.Addr
	Log      *slog.Logger
	// Enter is called once, when the client has logged in. It returns the socket to root's process, which is closed
	// after it has been passed on. keyless says that the client has shown no key.
	Enter func(keyless bool) (*os.File, error)

	session []byte // the first hash signed, which ssh uses as the id of the session
}

// The limits for a connection that has not logged in.
const (
	maxQuestions = 400 // a client tries at most 128 times, with up to three questions each
	hashSize     = 32  // length of the hash in the key exchanges that sshconn offers; nothing else is signed
	maxQuestion  = 32 << 10
)

// Serve answers until the client has logged in, conn is closed, or patience is over. It closes conn. The error is nil
// if the client has logged in.
func (g *Gate) Serve(conn *sshmsg.Conn, patience time.Duration) error {
	defer conn.Close()
	conn.Unix().SetReadDeadline(time.Now().Add(patience)) // fails only on a closed socket, as Receive then does
	for range maxQuestions {
		packet, files, err := conn.Receive(maxQuestion)
		if err != nil {
			return err
		}
		sshmsg.CloseAll(files)
		entered, err := g.answer(conn, packet)
		if err != nil || entered {
			return err
		}
	}
	return fmt.Errorf("answer connection: more than %d questions", maxQuestions)
}

// answer answers one question. It fails if the packet is not a question, or if the answer cannot be sent.
func (g *Gate) answer(conn *sshmsg.Conn, packet []byte) (entered bool, err error) {
	switch packet[0] {
	case sshmsg.KindBegin:
		return false, conn.Send(g.begin())
	case sshmsg.KindSign:
		var m sshmsg.Sign
		if err := sshmsg.Read(packet, &m); err != nil {
			return false, err
		}
		if g.session == nil {
			g.session = m.Hash
		}
		return false, Sign(conn, g.HostKey, m)
	case sshmsg.KindOffer:
		var m sshmsg.Offer
		if err := sshmsg.Read(packet, &m); err != nil {
			return false, err
		}
		if _, err := g.listed(m.User, m.Key); err != nil {
			return false, conn.Refuse(err)
		}
		return false, conn.Send(sshmsg.Done{})
	case sshmsg.KindEnter:
		var m sshmsg.Enter
		if err := sshmsg.Read(packet, &m); err != nil {
			return false, err
		}
		return g.enter(conn, m)
	}
	return false, fmt.Errorf("answer connection: no question begins with %d", packet[0])
}

func (g *Gate) begin() sshmsg.Begun {
	b := sshmsg.Begun{HostKey: g.HostKey.PublicKey().Marshal()}
	if err := g.closed(); err == nil {
		b.NoKey = true
	} else if g.NoAuth {
		b.Banner = err.Error() + "\r\n"
	}
	return b
}

// Sign answers a request for a signature of the host key. It signs nothing but data of the length of a key exchange's
// hash.
func Sign(conn *sshmsg.Conn, key ssh.Signer, m sshmsg.Sign) error {
	if len(m.Hash) != hashSize {
		return conn.Refuse(fmt.Errorf("sign: %d bytes are no hash of a key exchange", len(m.Hash)))
	}
	s, err := key.Sign(rand.Reader, m.Hash)
	if err != nil {
		return conn.Refuse(fmt.Errorf("sign: %w", err))
	}
	return conn.Send(sshmsg.Signed{Format: s.Format, Blob: s.Blob})
}

// listed returns the key if the user could log in with it.
func (g *Gate) listed(user string, blob []byte) (ssh.PublicKey, error) {
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	if keys, _ := g.keys(); !keys.Has(key) {
		return nil, errors.New("log in: the key is not one of os.sshKeys")
	}
	return key, onlyRoot(user)
}

func onlyRoot(user string) error {
	if user != "root" {
		return fmt.Errorf("log in as %q: only root has an account", user)
	}
	return nil
}

// enter decides about a login independently of earlier answers: keys may have been added or removed meanwhile.
func (g *Gate) enter(conn *sshmsg.Conn, m sshmsg.Enter) (bool, error) {
	log := g.Log.With("remote", g.Remote.String())
	var err error
	if len(m.Key) == 0 {
		if err = g.closed(); err == nil {
			err = onlyRoot(m.User)
		}
	} else {
		var key ssh.PublicKey
		if key, err = g.listed(m.User, m.Key); err == nil {
			err = g.verify(key, m)
			log = log.With("fingerprint", ssh.FingerprintSHA256(key))
		}
	}
	var root *os.File
	if err == nil {
		root, err = g.Enter(len(m.Key) == 0)
	}
	if err != nil {
		return false, conn.Refuse(err)
	}
	defer root.Close() // it is passed on
	log.Info("logged in", "client", m.Client)
	return true, conn.Send(sshmsg.Done{}, root)
}

// verify verifies the client's signature for the kind of keys whose signature the library gives out.
func (g *Gate) verify(key ssh.PublicKey, m sshmsg.Enter) error {
	if key.Type() != ssh.KeyAlgoED25519 {
		return nil
	}
	var signature ssh.Signature
	if err := ssh.Unmarshal(m.Signature, &signature); err != nil {
		return fmt.Errorf("log in: read signature: %w", err)
	}
	if g.session == nil {
		return errors.New("log in: there was no key exchange")
	}
	if err := key.Verify(signedForLogin(g.session, m.User, key), &signature); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	return nil
}

// signedForLogin returns what a client signs (RFC 4252, 7).
func signedForLogin(session []byte, user string, key ssh.PublicKey) []byte {
	const userAuthRequest = 50
	return ssh.Marshal(struct {
		Session               []byte
		Kind                  byte
		User, Service, Method string
		Signed                bool
		Algorithm             string
		Key                   []byte
	}{session, userAuthRequest, user, "ssh-connection", "publickey", true, key.Type(), key.Marshal()})
}

// Ended reports whether an error of Serve only means that the client went away or took too long.
func Ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) }
