package cellular

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"resinos/mounts/atomicfile"
)

// PINs remembers, over reboots and power cuts, which PIN has been tried with which SIM and not been taken: no PIN is
// ever tried twice. What is kept is a digest: the file is on the device's disk.
type PINs struct {
	Path string
}

// try is a PIN that was about to be sent.
type try struct {
	Digest string `json:"digest"`
	Left   int    `json:"left"` // tries that the SIM allowed before; -1: not known
}

type tries struct {
	Salt string         `json:"salt"`
	SIMs map[string]try `json:"sims"` // by the digest of their identity
}

func (t tries) digest(text string) string {
	sum := sha256.Sum256([]byte(t.Salt + "\x00" + text))
	return hex.EncodeToString(sum[:])
}

func (p PINs) read() (tries, error) {
	t := tries{SIMs: map[string]try{}}
	text, err := os.ReadFile(p.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &t)
	}
	if t.SIMs == nil {
		t.SIMs = map[string]try{}
	}
	if err != nil {
		return t, fmt.Errorf("read tries of PINs: %w", err)
	}
	return t, nil
}

// Refused says why a PIN must not be tried; empty: it may. left is how many tries the SIM allows now, -1 if that is not
// known. A try whose end nobody saw, because the power went, counts only if the SIM has counted it.
func (p PINs) Refused(identity, pin string, left int) string {
	t, err := p.read()
	if err != nil { // which PINs have failed is not known
		return err.Error() + "; the PIN is not tried. Remove the file to try it"
	}
	before, known := t.SIMs[t.digest(identity)]
	if !known || before.Digest != t.digest(identity+"\x00"+pin) || before.Left > 0 && left >= before.Left {
		return ""
	}
	return "the PIN has been tried with this SIM and was wrong: it is not tried again"
}

// Begin remembers that a PIN is about to be sent. Without that, it must not be sent.
func (p PINs) Begin(identity, pin string, left int, salt func() string) error {
	t, err := p.read()
	if err != nil {
		return err
	}
	if t.Salt == "" {
		t.Salt = salt()
	}
	t.SIMs[t.digest(identity)] = try{t.digest(identity + "\x00" + pin), left}
	return p.write(t)
}

// Failed remembers that the SIM has refused the PIN, whatever it says about tries.
func (p PINs) Failed(identity string) error {
	t, err := p.read()
	if err != nil {
		return err
	}
	one := t.SIMs[t.digest(identity)]
	one.Left = -1
	t.SIMs[t.digest(identity)] = one
	return p.write(t)
}

// Taken forgets the try: the SIM has taken the PIN.
func (p PINs) Taken(identity string) error {
	t, err := p.read()
	if err != nil {
		return err
	}
	delete(t.SIMs, t.digest(identity))
	return p.write(t)
}

func (p PINs) write(t tries) error {
	text, err := json.Marshal(t)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(p.Path), 0o700)
	}
	if err == nil {
		err = atomicfile.Write(p.Path, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("remember the try of a PIN: %w", err)
	}
	return nil
}
