package sshd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"resinos/services/settings"
)

// keysKey is the key of config.json that lists who may log in.
const keysKey = "os.sshKeys"

// keyring is the set of keys that may log in as root, by their wire form.
type keyring struct {
	keys atomic.Pointer[map[string]bool]
}

func (k *keyring) has(key ssh.PublicKey) bool {
	keys := k.keys.Load()
	return keys != nil && (*keys)[string(key.Marshal())]
}

// take replaces the set. A line that is no key costs only itself. One with options (authorized_keys in sshd(8)) is refused: they
// restrict what the key may do, and we would let it do everything.
func (k *keyring) take(lines []string) error {
	keys := map[string]bool{}
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
	k.keys.Store(&keys)
	return errors.Join(faults...)
}

// follow keeps the set as the owner's settings say, until ctx ends.
func (k *keyring) follow(ctx context.Context, cfg Config) {
	err := settings.Follow(ctx, settings.Follower{Path: cfg.Settings, Daemon: "sshd", Keys: []string{keysKey}, Log: cfg.Log,
		Apply: func(s settings.Settings) error { return k.take(s.List(keysKey)) }})
	if ctx.Err() == nil {
		cfg.Log.Warn("settings not followed", "error", err)
	}
}
