package sshaccess

import (
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"resinos/net/sshaccess/accesstest"
)

func TestParseKeys(t *testing.T) {
	one, oneText := accesstest.NewSigner(t)
	two, twoText := accesstest.NewSigner(t)
	k, err := ParseKeys([]string{oneText + " me@here", "ssh-ed25519 AAAA", `command="true" ` + twoText})
	if err == nil || !strings.Contains(err.Error(), "key 2") || !strings.Contains(err.Error(), "key 3: options") {
		t.Errorf("ParseKeys = %v", err)
	}
	if !k.Has(one.PublicKey()) || k.Has(two.PublicKey()) {
		t.Error("a bad line costs more than itself, or a restricted key may do everything")
	}
}

// FuzzKeys: of the lines of os.sshKeys, those that are a key and nothing else let their key in, and no other does.
func FuzzKeys(f *testing.F) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGyQIqhH6W5/wT5RD5wZ0nF3cDbT/cW4mfXr0Ls3Y5+N"
	f.Add(key+" me@here", key)
	f.Add(`command="true" `+key, "")
	f.Add(key+"\n"+key, "ssh-ed25519 AAAA")
	f.Add("# a comment", "\x00")
	f.Fuzz(func(t *testing.T, one, two string) {
		keys, err := ParseKeys([]string{one, two})
		if len(keys) > 2 || len(keys) == 0 && err == nil {
			t.Errorf("ParseKeys(%q, %q): %d keys, %v", one, two, len(keys), err)
		}
		for _, line := range []string{one, two} {
			key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
			if err != nil || len(options)+len(rest) > 0 {
				continue
			}
			if !keys.Has(key) {
				t.Errorf("the key of %q does not enter", line)
			}
		}
		if strings.Contains(one+two, "\n") && err == nil &&
			strings.Contains(strings.TrimRight(one, "\n")+strings.TrimRight(two, "\n"), "\nssh-") {
			t.Errorf("ParseKeys(%q, %q) takes several lines", one, two)
		}
	})
}
