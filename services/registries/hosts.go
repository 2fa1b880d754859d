package registries

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"resinos/mounts/plainfile"
)

// HostsFile is containerd's, with its name.
const HostsFile = "hosts.toml"

// Settings are what a hosts.toml says about one registry. What it does not say is not done.
type Settings struct {
	Dir     string          // the directory of the file; empty: there is none
	Plain   map[string]bool // hosts that may be spoken to without TLS
	Unknown bool            // of some host a certificate that nobody vouches for will do
	Hosts   []Host          // mirrors in the order of the file, then the registry, if Server is set
	Server  bool            // the file names the registry's own address
}

// Host is a server that has what a registry has.
type Host struct {
	URL           *url.URL // up to the API's first part, without a slash at its end
	Pull, Resolve bool     // blobs; manifests by their tag
	CA            []string // files with roots to trust besides the device's
	SkipVerify    bool     // a certificate that nobody vouches for will do
	Header        map[string][]string
	Unsupported   string // a key of the file that only the engine carries out
}

// Find returns the settings for a registry: of the first directory that has some.
func Find(dirs []string, registry string) (Settings, error) {
	for _, dir := range dirs {
		for _, name := range hostNames(registry) {
			file := filepath.Join(dir, name, HostsFile)
			text, err := plainfile.Read(file, maxSettings)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return Settings{}, Fault{file, err}
			}
			s, err := ParseHosts(text)
			if err != nil {
				return Settings{}, Fault{file, err}
			}
			s.locate(filepath.Dir(file))
			return s, nil
		}
	}
	return Settings{}, nil
}

// locate makes the names of files absolute.
func (s *Settings) locate(dir string) {
	s.Dir = dir
	for _, h := range s.Hosts {
		for i, ca := range h.CA {
			if !filepath.IsAbs(ca) {
				h.CA[i] = filepath.Join(dir, ca)
			}
		}
	}
}

// hostNames are the names that the directory of a registry may have, as containerd looks for them: a colon is not for
// every file system.
func hostNames(registry string) []string {
	names := []string{registry, "_default"}
	if host, port, ok := strings.Cut(registry, ":"); ok {
		names = []string{host + "_" + port + "_", registry, "_default"}
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

// ParseHosts reads a hosts.toml. It is stricter than containerd's library, which goes on without a file that it does
// not understand: the device would then ask the registry that its owner has replaced.
func ParseHosts(text []byte) (Settings, error) {
	var file struct {
		hostFile
		Server string              `toml:"server"`
		Host   map[string]hostFile `toml:"host"`
	}
	meta, err := toml.Decode(string(text), &file)
	if err != nil {
		var fault toml.ParseError
		if errors.As(err, &fault) {
			return Settings{}, fmt.Errorf("line %d: %s", fault.Position.Line, fault.Message)
		}
		return Settings{}, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return Settings{}, fmt.Errorf("unknown key %s", unknown[0])
	}
	s := Settings{Plain: map[string]bool{}}
	for _, key := range meta.Keys() {
		if len(key) == 2 && key[0] == "host" {
			if err := s.add(key[1], file.Host[key[1]]); err != nil {
				return Settings{}, err
			}
		}
	}
	s.Unknown = s.Unknown || file.SkipVerify
	if file.Server == "" {
		return s, nil
	}
	s.Server = true
	return s, s.add(file.Server, file.hostFile)
}

// add adds what is said about a server.
func (s *Settings) add(server string, f hostFile) error {
	address := server
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("%q is not the address of a registry: write https://HOST", address)
	}
	h := Host{URL: u, SkipVerify: f.SkipVerify}
	can := func(c string) bool { return len(f.Capabilities) == 0 || slices.Contains(f.Capabilities, c) }
	h.Pull, h.Resolve = can("pull"), can("resolve")
	if u.Path = strings.TrimSuffix(u.Path, "/"); !f.OverridePath && !strings.HasSuffix(u.Path, "/v2") {
		u.Path += "/v2"
	}
	if h.CA, err = stringsOf("ca", f.CA); err != nil {
		return err
	}
	h.Header = map[string][]string{}
	for name, value := range f.Header {
		if h.Header[name], err = stringsOf("header."+name, value); err != nil {
			return err
		}
	}
	if f.Client != nil {
		h.Unsupported = "client"
	}
	s.Unknown = s.Unknown || f.SkipVerify
	if u.Scheme == "http" {
		s.Plain[u.Host] = true
	}
	s.Hosts = append(s.Hosts, h)
	return nil
}

// stringsOf returns a value that is a string or a list of them.
func stringsOf(key string, value any) ([]string, error) {
	switch v := value.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		all := make([]string, len(v))
		for i, one := range v {
			text, is := one.(string)
			if !is {
				return nil, fmt.Errorf("%s is not a list of strings", key)
			}
			all[i] = text
		}
		return all, nil
	}
	return nil, fmt.Errorf("%s is neither a string nor a list of strings", key)
}
