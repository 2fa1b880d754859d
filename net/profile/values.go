package profile

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"resinos/net/keyfile"
	"resinos/net/keyvalue"
)

// parity reads the parity of a serial line: a number of NetworkManager, or the letter that old files have.
func parity(k keyfile.Key, into *int64) error {
	if n, err := keyvalue.Number(k.Value, -1<<31, 1<<31-1); err == nil {
		switch n {
		case 'n', 'N':
			*into = 0
		case 'e', 'E':
			*into = 1
		case 'o', 'O':
			*into = 2
		case 0, 1, 2:
			*into = n
		default:
			return errors.New("no parity has this number")
		}
		return nil
	}
	switch strings.TrimSpace(k.Value) {
	case "n", "N":
		*into = 0
	case "e", "E":
		*into = 1
	case "o", "O":
		*into = 2
	default:
		return errors.New("the parity is n, e or o")
	}
	return nil
}

// The values of AddrGenMode.
const (
	EUI64 = iota
	StablePrivacy
	DefaultOrEUI64
	DefaultMode
)

func addrGenMode(k keyfile.Key, into *int64) error {
	text, err := k.Text()
	if err != nil {
		return err
	}
	words := []string{"eui64", "stable-privacy", "default-or-eui64", "default"}
	if at := slices.Index(words, text); at >= 0 {
		*into = int64(at)
		return nil
	}
	if n, err := keyvalue.Number(text, -1<<31, 1<<31-1); err == nil {
		*into = n
		return nil
	}
	*into = DefaultOrEUI64
	return errors.New("not eui64, stable-privacy, default-or-eui64 or default; the default is used")
}

const peerPrefix = "wireguard-peer."

var errKey = errors.New("not a key of 32 bytes in base64")

// wireguardKey reads a key, which the Secret then holds as it is written.
func wireguardKey(k keyfile.Key, into *keyvalue.Secret) error {
	text, err := k.Text()
	if err != nil {
		return err
	}
	if _, ok := keyvalue.Key32(text); !ok {
		return errKey
	}
	*into = keyvalue.NewSecret(text)
	return nil
}

// endpoint reads HOST:PORT. A literal IPv6 address is in brackets.
func endpoint(k keyfile.Key, into *string) error {
	text, err := k.Text()
	if err != nil || text == "" {
		return err
	}
	at := strings.LastIndexByte(text, ':')
	if at < 0 {
		return errors.New("not HOST:PORT")
	}
	host, port := text[:at], text[at+1:]
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("not HOST:PORT")
	}
	if inner, is := strings.CutPrefix(host, "["); is {
		host = strings.TrimSuffix(inner, "]")
		if !strings.HasSuffix(inner, "]") {
			return errors.New("the bracket is not closed")
		}
	}
	if host == "" || strings.ContainsAny(host, " []") {
		return errors.New("the host is missing or not valid")
	}
	*into = text
	return nil
}

// peers reads the sections of the peers of wireguard. A peer that is not valid is left out.
func (r *reader) peers(p *Profile) {
	for _, g := range r.file.Groups {
		public, is := strings.CutPrefix(g.Name, peerPrefix)
		if !is {
			continue
		}
		if _, ok := keyvalue.Key32(public); !ok {
			r.warn(g.Name, keyfile.Key{Line: g.Line}, "ignored: the public key is %v", errKey)
			continue
		}
		peer := Peer{PublicKey: public}
		r.peer(g, &peer)
		if p.WireGuard == nil {
			p.WireGuard = NewSection[WireGuard]()
		}
		p.WireGuard.Peers = append(p.WireGuard.Peers, peer)
	}
}
