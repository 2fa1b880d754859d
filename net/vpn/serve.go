package vpn

import (
	"encoding/json"
	"fmt"
	"net"

	"resinos/net/inforce"
	"resinos/net/netcontrol"
	"resinos/net/vpnserver"
	"resinos/services/control"
)

// Serve answers netcontrol.OpVPNServer: what the key file of the server is to hold after a change of its clients. The
// first client makes the server.
func Serve(files *inforce.Set, args json.RawMessage) (netcontrol.ServerFile, error) {
	var change netcontrol.ServerChange
	if err := control.Args(args, &change); err != nil {
		return netcontrol.ServerFile{}, err
	}
	server, err := current(files, change.Verb == "add")
	if err != nil {
		return netcontrol.ServerFile{}, err
	}
	out := netcontrol.ServerFile{File: vpnserver.File}
	switch change.Verb {
	case "add":
		if change.Endpoint == "" {
			change.Endpoint = ownAddress()
		}
		if change.Endpoint == "" {
			return out, &control.Error{Text: "the device has no address that clients could reach",
				Hint: "name it: --endpoint HOST"}
		}
		out.Profile, err = server.Add(change.Client, change.Endpoint)
	case "remove":
		if server.Clients[change.Client] == "" {
			err = fmt.Errorf("no client is called %q", change.Client)
		}
		delete(server.Clients, change.Client)
	default:
		err = fmt.Errorf("no change is called %q", change.Verb)
	}
	if err != nil {
		return netcontrol.ServerFile{}, &control.Error{Text: err.Error(), Hint: "try: osctl net plan"}
	}
	out.Text = server.Text()
	return out, nil
}

// current returns the server of the key file, or a new one if there is none and create says so.
func current(files *inforce.Set, create bool) (vpnserver.Server, error) {
	for _, f := range files.Dir.Files {
		if f.Name != vpnserver.File {
			continue
		}
		if f.Error != "" || f.Profile == nil {
			return vpnserver.Server{}, &control.Error{Text: f.Error, Hint: "mend or remove " + vpnserver.File}
		}
		s, err := vpnserver.Read(*f.Profile)
		if err != nil {
			return s, &control.Error{Text: f.Name + ": " + err.Error(), Hint: "mend or remove " + vpnserver.File}
		}
		return s, nil
	}
	if !create {
		return vpnserver.Server{}, &control.Error{Text: "the device is no VPN server",
			Hint: "try: osctl net vpn-server add NAME"}
	}
	return vpnserver.New()
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
