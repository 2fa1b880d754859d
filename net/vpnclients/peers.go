package vpnclients

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"resinos/net/wireguardserver"
)

// errNoPeers is why a change without a server of wireguard fails.
var errNoPeers = errors.New("the device is no wireguard server; osctl net wireguard-server add NAME makes it one")

// ChangePeers is Change for the key file of wireguard in dir. The first peer makes the file with the device's own key.
func ChangePeers(dir, endpoint string, args ...string) (profile string, err error) {
	path := filepath.Join(dir, wireguardserver.File)
	return change(path, errNoPeers, args, func(path, verb, name string) (profile, text string, err error) {
		server, err := readPeers(path, verb == "add")
		if err != nil {
			return "", "", err
		}
		if verb == "remove" {
			err = server.Remove(name)
		} else if endpoint = cmp.Or(endpoint, ownAddress()); endpoint == "" {
			err = errors.New("the device has no address that peers could reach; name it: --endpoint HOST")
		} else {
			profile, err = server.Add(name, endpoint, newKey(), newKey())
		}
		return profile, server.Text(), err
	})
}

// readPeers returns what the key file says, or a server without peers if there is no file and it may be made.
func readPeers(path string, fresh bool) (wireguardserver.Server, error) {
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && fresh:
		return wireguardserver.New(newKey())
	case errors.Is(err, fs.ErrNotExist):
		return wireguardserver.Server{}, errNoPeers
	case err != nil:
		return wireguardserver.Server{}, err
	}
	server, err := wireguardserver.Read(path, text)
	if err != nil {
		err = fmt.Errorf("%w; mend the file, or begin again: osctl net wireguard-server off", err)
	}
	return server, err
}

// newKey returns a new key. As a private one it is clamped as RFC 7748, section 5, asks.
func newKey() (k wireguardserver.Key) {
	rand.Read(k[:]) // never fails
	k[0] &= 248
	k[31] = k[31]&127 | 64
	return k
}
