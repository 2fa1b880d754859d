package delegation

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"resinos/mounts/atomicfile"
	"resinos/mounts/plainfile"
	"resinos/net/dhcp6"
)

// fileName is the name of the file in both directories. It is longer than that of any link, whose lease files are
// there as well.
const fileName = "delegated-prefixes.json"

// memory is the content of a file. In /run, all of it is there; over a reboot, instants mean nothing.
type memory struct {
	Uplinks []uplink       `json:"uplinks,omitempty"`
	Numbers map[string]int `json:"numbers,omitempty"` // by name of the shared link
}

// uplink is what one link has got.
type uplink struct {
	Link     string        `json:"link"`
	Hardware string        `json:"hardware"`
	Prefixes []prefix      `json:"prefixes"`
	Server   []byte        `json:"server,omitempty"`
	Bound    time.Duration `json:"bound,omitempty"` // nanoseconds since kernel start
	Renew    time.Duration `json:"renew,omitempty"`
	Rebind   time.Duration `json:"rebind,omitempty"`
}

type prefix struct {
	Prefix    netip.Prefix  `json:"prefix"`
	Preferred time.Duration `json:"preferred,omitempty"` // counted from bound
	Valid     time.Duration `json:"valid,omitempty"`
}

// The limits on files.
const (
	maxFile    = 64 << 10
	maxUplinks = 8
	maxShared  = 64
	maxTime    = 140 * 365 * 24 * time.Hour // a lease without end has 136 years
)

// read reads the file of a directory. The error wraps fs.ErrNotExist if there is none.
func read(dir string) (memory, error) {
	path := filepath.Join(dir, fileName)
	text, err := plainfile.Read(path, maxFile)
	if err != nil {
		return memory{}, fmt.Errorf("read delegated prefixes: %w", err)
	}
	m, err := parse(text)
	if err != nil {
		return memory{}, fmt.Errorf("read delegated prefixes %s: %w", path, err)
	}
	return m, nil
}

func parse(text []byte) (memory, error) {
	var m memory
	if err := json.Unmarshal(text, &m); err != nil {
		return memory{}, err
	}
	if len(m.Uplinks) > maxUplinks || len(m.Numbers) > maxShared {
		return memory{}, errors.New("it names too many links")
	}
	for _, u := range m.Uplinks {
		for _, t := range []time.Duration{u.Bound, u.Renew, u.Rebind} {
			if t < 0 || t > maxTime {
				return memory{}, errors.New("times do not fit")
			}
		}
		if !dhcp6.Delegable(u.prefixes()) {
			return memory{}, errors.New("no server could have delegated its prefixes")
		}
		for _, p := range u.Prefixes {
			if p.Preferred < 0 || p.Preferred > p.Valid || p.Valid > maxTime {
				return memory{}, errors.New("times do not fit")
			}
		}
	}
	for _, n := range m.Numbers {
		if n < 0 || n >= maxNumber {
			return memory{}, errors.New("no network has this number")
		}
	}
	return m, nil
}

// write writes the file, at once or not at all if the power may go.
func (m memory) write(dir string, durable bool) error {
	text, err := json.Marshal(m)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	path := filepath.Join(dir, fileName)
	switch text = append(text, '\n'); {
	case err != nil:
	case durable:
		err = atomicfile.Write(path, text, 0o600)
	default: // in RAM: nothing waits for a disk
		err = errors.Join(os.WriteFile(path+".new", text, 0o600), os.Rename(path+".new", path))
	}
	if err != nil {
		return fmt.Errorf("write delegated prefixes: %w", err)
	}
	return nil
}

// of returns what a link with this hardware address has got; the zero value: nothing.
func (m memory) of(link, hardware string) uplink {
	for _, u := range m.Uplinks {
		if u.Link == link && u.Hardware == hardware {
			return u
		}
	}
	return uplink{}
}

func (u uplink) prefixes() (out []netip.Prefix) {
	for _, p := range u.Prefixes {
		out = append(out, p.Prefix)
	}
	return out
}

// lease returns what the client goes on with.
func (u uplink) lease() dhcp6.Lease {
	l := dhcp6.Lease{Server: u.Server, Bound: u.Bound, Renew: u.Renew, Rebind: u.Rebind}
	for _, p := range u.Prefixes {
		l.Prefixes = append(l.Prefixes, dhcp6.Prefix(p))
	}
	return l
}

// remembered returns what the files say of an uplink: in /run, and over a reboot.
func remembered(u Uplink) (now, later uplink) {
	now = uplink{Link: u.Link, Hardware: u.Hardware, Server: u.Lease.Server, Bound: u.Lease.Bound,
		Renew: u.Lease.Renew, Rebind: u.Lease.Rebind}
	later = uplink{Link: u.Link, Hardware: u.Hardware}
	for _, p := range u.Lease.Prefixes {
		now.Prefixes = append(now.Prefixes, prefix(p))
		later.Prefixes = append(later.Prefixes, prefix{Prefix: p.Prefix})
	}
	return now, later
}
