package fetcher

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"

	"resinos/mounts/plainfile"
)

// loginsFile is docker's, with its name.
const loginsFile = "config.json"

// maxSettings bounds each file of settings.
const maxSettings = 1 << 20

// login is what a registry is told of who asks. Without a user, secret is a token that it gave out.
type login struct{ user, secret string }

// logins are by the domain of images, as references have it.
type logins map[string]login

// words are all that must never be seen.
func (l logins) words() []string {
	var out []string
	for _, one := range l {
		if one.secret != "" {
			out = append(out, one.secret, base64.StdEncoding.EncodeToString([]byte(one.user+":"+one.secret)))
		}
	}
	return out
}

// readLogins reads the first config.json that there is. No file is no login.
func readLogins(dirs []string) (logins, error) {
	for _, dir := range dirs {
		file := filepath.Join(dir, loginsFile)
		text, err := plainfile.Read(file, maxSettings)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, setting{file, err}
		}
		l, err := parseLogins(text)
		if err != nil {
			return nil, setting{file, err}
		}
		return l, nil
	}
	return nil, nil
}

// parseLogins reads the logins out of a docker config.json. An error never shows a value.
func parseLogins(text []byte) (logins, error) {
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
		return nil, errors.New("credsStore and credHelpers name programs that the device has not: " +
			"remove them and run docker login again")
	}
	out := logins{}
	for host, a := range file.Auths {
		one := login{a.Username, a.Password}
		if a.Auth != "" {
			plain, err := base64.StdEncoding.DecodeString(a.Auth)
			user, password, ok := strings.Cut(strings.TrimRight(string(plain), "\x00"), ":")
			if err != nil || !ok {
				return nil, fmt.Errorf("auth of %s is not the base64 of USER:PASSWORD: run docker login again", host)
			}
			one = login{user, password}
		}
		if a.IdentityToken != "" {
			one = login{"", a.IdentityToken}
		}
		out[domainOf(host)] = one
	}
	return out, nil
}

// domainOf is how references name the registry that a key of config.json names, which may be an old address of it.
func domainOf(host string) string {
	_, rest, ok := strings.Cut(host, "://")
	if !ok {
		rest = host
	}
	rest, _, _ = strings.Cut(rest, "/")
	named, err := reference.ParseNormalizedNamed(rest + "/x/y")
	if err != nil {
		return rest
	}
	return reference.Domain(named)
}
