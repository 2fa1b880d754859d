package sshd

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"resinos/mounts/atomicfile"
)

// keyFile is the name that OpenSSH uses, so that a device keeps its identity if it ever changes its server.
const keyFile = "ssh_host_ed25519_key"

// hostKey returns the device's key in PEM, and creates it the first time. A key that cannot be read is set aside, and
// one that cannot be stored is kept in memory: a device with a new identity is better than one that nobody can reach.
func hostKey(dir string, log *slog.Logger) []byte {
	path := filepath.Join(dir, keyFile)
	text, err := loadKey(path)
	if err == nil {
		return text
	}
	if !errors.Is(err, fs.ErrNotExist) {
		log.Error("host key not usable, making a new one", "error", err, "kept_as", path+".bad")
		if err := os.Rename(path, path+".bad"); err != nil {
			log.Warn("host key not set aside", "error", err)
		}
	}
	key, text, err := newKey()
	if err != nil {
		panic(err) // a fresh ed25519 key can always be marshalled
	}
	if err := keepKey(path, text); err != nil {
		log.Error("host key not kept, it will be another one after a restart", "error", err)
	} else {
		log.Info("host key made", "fingerprint", ssh.FingerprintSHA256(key.PublicKey()))
	}
	return text
}

// loadKey reads a key and makes it readable by root only.
func loadKey(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read host key %s: not a file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, err
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if _, err := ssh.ParsePrivateKey(text); err != nil {
		return nil, fmt.Errorf("read host key %s: %w", path, err)
	}
	return text, nil
}

func newKey() (ssh.Signer, []byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "resinOS host key")
	if err != nil {
		return nil, nil, err
	}
	key, err := ssh.NewSignerFromKey(private)
	return key, pem.EncodeToMemory(block), err
}

func keepKey(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(path, text, 0o600)
}
