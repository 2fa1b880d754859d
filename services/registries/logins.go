package registries

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"resinos/mounts/plainfile"
)

// LoginsFile is docker's, with its name.
const LoginsFile = "config.json"

// Login is what a registry is told of who asks. Without a user, Secret is a token that it gave out.
type Login struct{ User, Secret string }

// Logins are by the name of a registry.
type Logins map[string]Login

// Secrets are all words that must never be seen.
func (l Logins) Secrets() []string {
	var out []string
	for _, one := range l {
		if one.Secret != "" {
			out = append(out, one.Secret, base64.StdEncoding.EncodeToString([]byte(one.User+":"+one.Secret)))
		}
	}
	return out
}

// ReadLogins reads the first config.json that there is. No file is no login. name returns the name of the registry at a
// host; nil: the host.
func ReadLogins(dirs []string, name func(host string) string) (Logins, error) {
	for _, dir := range dirs {
		file := filepath.Join(dir, LoginsFile)
		text, err := plainfile.Read(file, maxSettings)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, Fault{file, err}
		}
		l, err := ParseLogins(text, name)
		if err != nil {
			return nil, Fault{file, err}
		}
		return l, nil
	}
	return nil, nil
}

// ParseLogins reads the logins out of a docker config.json. An error never shows a value.
func ParseLogins(text []byte, name func(host string) string) (Logins, error) {
	var file struct {
		Auths map[string]struct {
			Auth          string `json:"auth"`
			Username      string `json:"username"`
			Password      string `json:"password"`
			IdentityToken string `json:"identitytoken"`
		} `json:"auths"`
		CredsStore  string            `json:"credsStore"`
		CredHelpers map[string]string `json:"credHelpers"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, errors.New("it is not the JSON that docker login writes")
	}
	if file.CredsStore != "" || len(file.CredHelpers) > 0 {
		return nil, errors.New("credsStore and credHelpers name programs, which resinOS does not run: " +
			"remove them and run docker login again")
	}
	out := Logins{}
	for host, a := range file.Auths {
		one := Login{a.Username, a.Password}
		if a.Auth != "" {
			plain, err := base64.StdEncoding.DecodeString(a.Auth)
			user, password, ok := strings.Cut(strings.TrimRight(string(plain), "\x00"), ":")
			if err != nil || !ok {
				return nil, fmt.Errorf("auth of %s is not the base64 of USER:PASSWORD: run docker login again", host)
			}
			one = Login{user, password}
		}
		if a.IdentityToken != "" {
			one = Login{"", a.IdentityToken}
		}
		host = hostOf(host)
		if name != nil {
			host = name(host)
		}
		out[host] = one
	}
	return out, nil
}

// hostOf returns the host that a key of config.json names, which may be an address.
func hostOf(key string) string {
	_, rest, ok := strings.Cut(key, "://")
	if !ok {
		rest = key
	}
	host, _, _ := strings.Cut(rest, "/")
	return host
}
