package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/distribution/reference"

	"resinos/mounts/plainfile"
)

// hostsFile is containerd's, with its name.
const hostsFile = "hosts.toml"

// setting is a fault in one of the owner's files.
type setting struct {
	file string
	err  error
}

// Error names the file.
func (s setting) Error() string { return fmt.Sprintf("read %s: %v", s.file, s.err) }

// Unwrap returns the fault.
func (s setting) Unwrap() error { return s.err }

// said is what a hosts.toml says of trust. What it does not say is not done.
type said struct {
	plain   map[string]bool // hosts that may be spoken to without TLS
	unknown bool            // a certificate that nobody vouches for will do
}

// hostsOf returns the hosts that serve an image, in the order in which they are asked: mirrors, then the registry. They
// are read once: what they need of the owner's files is in memory then.
func hostsOf(ctx context.Context, image string, dirs []string, l logins) (docker.RegistryHosts, error) {
	named, err := reference.ParseDockerRef(image)
	if err != nil {
		return nil, setting{image, err}
	}
	domain := reference.Domain(named)
	dir, trust, err := findHosts(dirs, domain)
	if err != nil {
		return nil, err
	}
	var hosts []docker.RegistryHost
	options := config.HostOptions{
		DefaultScheme: "https",
		HostDir:       func(string) (string, error) { return dir, nil },
		UpdateClient:  func(c *http.Client) error { return trust.guard(c) },
		Credentials: func(host string) (string, string, error) {
			one, ok := l[domainOf(host)]
			if !ok && len(hosts) > 0 && host == hosts[len(hosts)-1].Host {
				one = l[domain] // the registry itself, under the address that it is spoken to at
			}
			return one.user, one.secret, nil
		},
	}
	hosts, err = config.ConfigureHosts(ctx, options)(domain)
	if err != nil {
		return nil, setting{dir, err}
	}
	return func(string) ([]docker.RegistryHost, error) { return hosts, nil }, nil
}

// findHosts returns the directory with the settings for a domain, or none.
func findHosts(dirs []string, domain string) (string, said, error) {
	for _, dir := range dirs {
		for _, name := range hostNames(domain) {
			found := filepath.Join(dir, name)
			file := filepath.Join(found, hostsFile)
			text, err := plainfile.Read(file, maxSettings)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return "", said{}, setting{file, err}
			}
			trust, err := parseHosts(text)
			if err != nil {
				return "", said{}, setting{file, err}
			}
			return found, trust, nil
		}
	}
	return "", said{}, nil
}

// hostNames are the names that the directory of a domain may have, as containerd looks for them: a colon is not for
// every file system.
func hostNames(domain string) []string {
	names := []string{domain, "_default"}
	if host, port, ok := strings.Cut(domain, ":"); ok {
		names = []string{host + "_" + port + "_", domain, "_default"}
	}
	return names
}

// hostFile is the format of hosts.toml as far as it concerns us.
type hostFile struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`
	Client       any            `toml:"client"`
	SkipVerify   bool           `toml:"skip_verify"`
	Header       map[string]any `toml:"header"`
	OverridePath bool           `toml:"override_path"`
	DialTimeout  string         `toml:"dial_timeout"`
}

// parseHosts checks a hosts.toml before containerd's library reads it, which goes on without a file that it does not
// understand: the device would then ask the registry that its owner has replaced.
func parseHosts(text []byte) (said, error) {
	var file struct {
		hostFile
		Server string              `toml:"server"`
		Host   map[string]hostFile `toml:"host"`
	}
	meta, err := toml.Decode(string(text), &file)
	if err != nil {
		var fault toml.ParseError
		if errors.As(err, &fault) {
			return said{}, fmt.Errorf("line %d: %s", fault.Position.Line, fault.Message)
		}
		return said{}, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return said{}, fmt.Errorf("unknown key %s", unknown[0])
	}
	trust := said{plain: map[string]bool{}, unknown: file.SkipVerify}
	if err := trust.note(file.Server); err != nil {
		return said{}, err
	}
	for server, h := range file.Host {
		trust.unknown = trust.unknown || h.SkipVerify
		if err := trust.note(server); err != nil {
			return said{}, err
		}
	}
	return trust, nil
}

func (s *said) note(server string) error {
	if server == "" {
		return nil
	}
	if !strings.Contains(server, "://") {
		server = "https://" + server
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("%q is not the address of a registry: write https://HOST", server)
	}
	if u.Scheme == "http" {
		s.plain[u.Host] = true
	}
	return nil
}
