// Package modemstate defines the two files through which netd and the program modem inform each other, in a directory
// that only root can enter: netd writes what it wants of modems, the program writes the results. Read first: Wanted and
// Modem.
package modemstate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"resinos/mounts/atomicfile"
)

// Directory is where both meet. PID 1 starts the service when WantedFile appears, and not without it.
const Directory = "/run/resinos/modem"

// The files in it.
const (
	WantedFile = "wanted" // holds secrets
	StateFile  = "state"
)

// Wanted is the profiles of modems, the first one that fits a modem is for it, and each is for one modem.
type Wanted struct {
	Profiles []Profile `json:"profiles"`
}

// Profile is what one key file asks of a modem.
type Profile struct {
	File      string `json:"file"`
	APN       string `json:"apn,omitempty"` // empty: the network chooses
	User      string `json:"user,omitempty"`
	Password  string `json:"password,omitempty"`
	NetworkID string `json:"network_id,omitempty"` // five or six digits; empty: any network
	HomeOnly  bool   `json:"home_only,omitempty"`
	PIN       string `json:"pin,omitempty"`

	Port     string `json:"port,omitempty"` // such as ttyUSB0: only the modem that has it; it counts as a modem's
	Device   string `json:"device,omitempty"`
	SIM      string `json:"sim,omitempty"`
	Operator string `json:"operator,omitempty"` // of the SIM
}

// Phase is how far a modem has come.
type Phase string

// The phases of a modem.
const (
	Idle       Phase = "idle" // no profile is for it
	Starting   Phase = "starting"
	Locked     Phase = "locked" // the SIM wants a PIN that is not known, or must not be tried
	Searching  Phase = "searching"
	Connecting Phase = "connecting"
	Connected  Phase = "connected"
	Failed     Phase = "failed" // tried again later
)

// Modem is one modem.
type Modem struct {
	Port       string `json:"port"` // its first one, such as ttyUSB0 or cdc-wdm0
	Model      string `json:"model,omitempty"`
	File       string `json:"file,omitempty"` // its key file; empty: none is for it
	Phase      Phase  `json:"phase"`
	Reason     string `json:"reason,omitempty"` // why it is not connected; it may hold what a network said
	Operator   string `json:"operator,omitempty"`
	Technology string `json:"technology,omitempty"`
	Roaming    bool   `json:"roaming,omitempty"`
	Signal     int    `json:"signal,omitempty"` // percent; 0: not known
	Bearer     Bearer `json:"bearer,omitzero"`  // only while it is connected
}

// Bearer is a connection to the network, and what the link of it gets.
type Bearer struct {
	Link    string       `json:"link,omitempty"`  // such as ppp0 or wwan0; empty: there is none
	DHCP    bool         `json:"dhcp,omitempty"`  // the rest comes from a DHCP server
	Given   bool         `json:"given,omitempty"` // the link has the address already, from pppd
	Address netip.Prefix `json:"address,omitzero"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
	Servers []netip.Addr `json:"name_servers,omitempty"`
	MTU     int          `json:"mtu,omitempty"`
}

// State is all modems.
type State struct {
	Modems []Modem `json:"modems"`
}

// Words says in a line what a modem does.
func (m Modem) Words() string {
	var facts []string
	add := func(format, value string) {
		if value != "" {
			facts = append(facts, fmt.Sprintf(format, value))
		}
	}
	add("%s", m.Operator)
	add("%s", m.Technology)
	if m.Roaming {
		facts = append(facts, "roaming")
	}
	if m.Signal > 0 {
		facts = append(facts, fmt.Sprintf("signal %d %%", m.Signal))
	}
	add("link %s", m.Bearer.Link)
	add("%s", m.Model)
	out := string(m.Phase)
	if m.Reason != "" {
		out += ": " + m.Reason
	}
	if len(facts) > 0 {
		out += " (" + strings.Join(facts, ", ") + ")"
	}
	return out
}

// By returns the bearer with this link, and the file of its profile.
func (s State) By(link string) (Bearer, string, bool) {
	i := slices.IndexFunc(s.Modems, func(m Modem) bool { return link != "" && m.Bearer.Link == link })
	if i < 0 {
		return Bearer{}, "", false
	}
	return s.Modems[i].Bearer, s.Modems[i].File, true
}

// Write replaces a file of the directory, which it creates, with value.
func Write(directory, name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(directory, name), text, 0o600)
}

// maxFile is the most bytes of a file that Read takes.
const maxFile = 1 << 20

// Read reads a file of the directory into value. false: it is not there.
func Read(directory, name string, value any) (bool, error) {
	path := filepath.Join(directory, name)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err == nil && len(text) > maxFile:
		err = fmt.Errorf("it has more than %d bytes", maxFile)
	}
	if err == nil {
		err = json.Unmarshal(text, value)
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	return true, nil
}
