package sshaccess

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"

	"resinos/services/config"
	"resinos/services/settings"
)

// Keys is the set of keys with which root can log in, by their wire form.
type Keys map[string]bool

// Has reports whether a key is in the set.
func (k Keys) Has(key ssh.PublicKey) bool { return k[string(key.Marshal())] }

// ParseKeys reads the lines of os.sshKeys. A line that is not a key affects only itself, and the error names it. A line
// with options (authorized_keys in sshd(8)) is refused: options restrict what the key may do, and sshd would allow
// everything.
func ParseKeys(lines []string) (Keys, error) {
	keys := Keys{}
	var faults []error
	for i, line := range lines {
		key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("key %d: %w", i+1, err))
		case len(options) > 0:
			faults = append(faults, fmt.Errorf("key %d: options are not supported", i+1))
		case len(rest) > 0:
			faults = append(faults, fmt.Errorf("key %d: more than one line", i+1))
		default:
			keys[string(key.Marshal())] = true
		}
	}
	return keys, errors.Join(faults...)
}

// keys reads who may log in now. With an error, logging in without a key is not allowed either: keys are set, although
// some cannot be used, or the settings cannot be read.
func (g *Gate) keys() (Keys, error) {
	if g.Settings == "" {
		return nil, nil
	}
	s, err := settings.Read(g.Settings)
	if err != nil {
		g.Log.Error("keys not read, nobody can log in", "error", err)
		return nil, errors.New("log in: os.sshKeys cannot be read")
	}
	lines := s.List(config.SSHKeys)
	if len(lines) == 0 {
		return nil, nil
	}
	keys, _ := ParseKeys(lines) // sshd reports what is wrong with them
	return keys, errors.New("log in: only a key in os.sshKeys is accepted")
}
