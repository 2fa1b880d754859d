// Package vpnclients owns the programs vpn-server and wireguard-server, by which osctl makes the device a server of
// openvpn or wireguard and adds and removes its clients: they create keys and certificates and replace the key file,
// under a lock. They are packed tools (init/tools), because netd, which runs all the time, must not contain the code
// that creates keys, and osctl, part of PID 1's binary, has no space for it.
//
// They report a change to nobody: netd watches the directory. Read Main first, then Change and ChangePeers.
package vpnclients

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"resinos/mounts/atomicfile"
	"resinos/net/keyimport"
	"resinos/net/profilecheck"
	"resinos/net/selfsigned"
	"resinos/net/vpnserver"
)

// ownName is the subject of the server's certificate.
const ownName = "resinos-vpn-server"

// Main is the program. args are those after its name: "[flags] add NAME", "remove NAME" or "off". The profile of a new
// client goes to standard output, errors to standard error. The result is the exit status: 0 done, 1 failed, 2 wrong
// usage.
func Main(args []string) int { return run("vpn-server", Change, args) }

// WireGuard is the other program, with the same arguments and results.
func WireGuard(args []string) int { return run("wireguard-server", ChangePeers, args) }

func run(name string, change func(dir, endpoint string, args ...string) (string, error), args []string) int {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	dir := flags.String("dir", keyimport.To, "`directory` of the key files")
	endpoint := flags.String("endpoint", "", "`HOST[:PORT]` by which clients reach the device")
	if err := flags.Parse(args); err != nil {
		return 2 // it has printed what is wrong
	}
	profile, err := change(*dir, *endpoint, flags.Args()...)
	if err == nil {
		_, err = io.WriteString(os.Stdout, profile)
	}
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	return 1
}

// Change carries out "add NAME", "remove NAME" or "off" on the key file in dir, and returns the profile of a new
// client, with its key. endpoint is HOST or HOST:PORT by which it reaches the device; empty: an address of the device.
// The first client makes the server. Two changes at once wait for each other.
func Change(dir, endpoint string, args ...string) (profile string, err error) {
	path := filepath.Join(dir, vpnserver.File)
	return change(path, errNone, args, func(path, verb, name string) (_, text string, err error) {
		server, there, err := read(path)
		switch {
		case err != nil:
			return "", "", fmt.Errorf("%w; mend the file, or begin again: osctl net vpn-server off", err)
		case verb == "remove" && !there:
			return "", "", errNone
		case verb == "remove" && server.Clients[name] == "":
			return "", "", fmt.Errorf("no client is called %q; try: osctl net plan", name)
		case verb == "remove":
			delete(server.Clients, name)
			return "", server.Text(), nil
		case !there:
			certificate, key, err := selfsigned.New(ownName, true)
			if err != nil {
				return "", "", err
			}
			server = vpnserver.New(certificate, key)
		}
		profile, err := add(&server, name, endpoint)
		return profile, server.Text(), err
	})
}

// change carries out "add NAME", "remove NAME" or "off" on a key file, which nobody else changes meanwhile. do is asked
// for all but "off", and returns the profile of a new client and the new text of the file. none is why "off" fails
// without a file.
func change(path string, none error, args []string,
	do func(path, verb, name string) (profile, text string, err error)) (profile string, err error) {
	verb, name, err := words(args)
	if err != nil {
		return "", err
	}
	done, err := alone(filepath.Dir(path))
	if err != nil {
		return "", fmt.Errorf("lock the key files: %w", err)
	}
	defer done()
	if verb == "off" {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		return "", none
	}
	profile, text, err := do(path, verb, name)
	if err != nil {
		return "", err
	}
	return profile, atomicfile.Write(path, []byte(text), 0o600)
}

// words reads "add NAME", "remove NAME" or "off".
func words(args []string) (verb, name string, err error) {
	if len(args) > 0 {
		verb = args[0]
	}
	if len(args) > 1 {
		name = args[1]
	}
	if wanted, known := map[string]int{"add": 2, "remove": 2, "off": 1}[verb]; !known || len(args) != wanted {
		return "", "", errors.New("it needs: add NAME, remove NAME, or off; try: osctl help net")
	}
	return verb, name, nil
}

// errNone is why a change without a server fails.
var errNone = errors.New("the device is no VPN server; osctl net vpn-server add NAME makes it one")

// read returns the server of the key file. A file that is not there is no error.
func read(path string) (s vpnserver.Server, there bool, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err != nil {
		return s, true, err
	}
	p, _, err := profilecheck.Read(path, text) // netd shows the warnings
	if err != nil {
		return s, true, err
	}
	if s, err = vpnserver.Read(p); err != nil {
		return s, true, fmt.Errorf("%s: %w", path, err)
	}
	return s, true, nil
}

// add gives a client a new key and certificate.
func add(s *vpnserver.Server, name, endpoint string) (profile string, err error) {
	endpoint = cmp.Or(endpoint, ownAddress())
	if endpoint == "" {
		return "", errors.New("the device has no address that clients could reach; name it: --endpoint HOST")
	}
	certificate, key, err := selfsigned.New(name, false)
	if err != nil {
		return "", err
	}
	return s.Add(name, endpoint, certificate, key)
}

// ownAddress returns the address that the device itself would use to get out; empty: it has none.
func ownAddress() string {
	conn, err := net.Dial("udp4", "192.0.2.1:9") // sends nothing (RFC 5737: an address of nobody)
	if err != nil {
		return ""
	}
	defer conn.Close() // nothing was sent
	address, _, _ := net.SplitHostPort(conn.LocalAddr().String())
	return address
}

// alone waits until nobody else changes the server: two changes at once would lose one of them.
func alone(dir string) (done func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return func() { d.Close() }, nil // which gives the lock back
}
