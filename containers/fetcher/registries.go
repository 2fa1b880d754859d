package fetcher

import (
	"context"
	"net/http"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/distribution/reference"

	"resinos/services/registries"
)

// hostsOf returns the hosts that serve an image, in the order in which they are asked: mirrors, then the registry. They
// are read once: what they need of the owner's files is in memory then.
func hostsOf(
	ctx context.Context, image string, dirs []string, l registries.Logins,
) (docker.RegistryHosts, error) {
	named, err := reference.ParseDockerRef(image)
	if err != nil {
		return nil, registries.Fault{File: image, Err: err}
	}
	domain := reference.Domain(named)
	// It is checked before containerd's library reads it, which goes on without a file that it does not understand.
	trust, err := registries.Find(dirs, domain)
	if err != nil {
		return nil, err
	}
	var hosts []docker.RegistryHost
	options := config.HostOptions{
		DefaultScheme: "https",
		HostDir:       func(string) (string, error) { return trust.Dir, nil },
		UpdateClient:  func(c *http.Client) error { return putGuard(c, trust) },
		Credentials: func(host string) (string, string, error) {
			one, ok := l[domainOf(host)]
			if !ok && len(hosts) > 0 && host == hosts[len(hosts)-1].Host {
				one = l[domain] // the registry itself, under the address that it is spoken to at
			}
			return one.User, one.Secret, nil
		},
	}
	hosts, err = config.ConfigureHosts(ctx, options)(domain)
	if err != nil {
		return nil, registries.Fault{File: trust.Dir, Err: err}
	}
	return func(string) ([]docker.RegistryHost, error) { return hosts, nil }, nil
}

// domainOf is how references name the registry at a host, which may be an old address of it.
func domainOf(host string) string {
	named, err := reference.ParseNormalizedNamed(host + "/x/y")
	if err != nil {
		return host
	}
	return reference.Domain(named)
}
