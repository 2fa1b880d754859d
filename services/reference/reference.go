// Package reference parses the names of bundles in a registry: HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:DIGEST.
// The host is always named: a bundle has no default registry. It links nothing, because osctl uses it. Read Reference
// first.
package reference

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Scheme begins a reference that could also be the name of a file.
const Scheme = "oci://"

// Reference names a manifest in a registry.
type Reference struct {
	Host       string // with a port, if it has one
	Repository string
	Tag        string // latest, if neither tag nor digest is named
	Digest     string // sha256:…, or empty
}

// Parse reads a reference, with or without Scheme.
func Parse(text string) (Reference, error) {
	rest := strings.TrimPrefix(text, Scheme)
	rest, digest, pinned := strings.Cut(rest, "@")
	host, path, found := strings.Cut(rest, "/")
	repository, tag, tagged := strings.Cut(path, ":")
	r := Reference{Host: host, Repository: repository, Tag: tag, Digest: digest}
	if !tagged && !pinned {
		r.Tag = "latest"
	}
	switch {
	case !found || !isHost(host):
		return r, fmt.Errorf("%q names no registry: want HOST/REPOSITORY:TAG", text)
	case !isRepository(repository):
		return r, fmt.Errorf("%q: %q is no name of a repository", text, repository)
	case (tagged || !pinned) && !isTag(r.Tag):
		return r, fmt.Errorf("%q: %q is no tag", text, tag)
	case pinned && !isDigest(digest):
		return r, fmt.Errorf("%q: %q is no digest: want sha256: and 64 digits", text, digest)
	}
	return r, nil
}

// Manifest is what the registry knows the manifest by: the digest, or else the tag.
func (r Reference) Manifest() string {
	if r.Digest != "" {
		return r.Digest
	}
	return r.Tag
}

// String returns the reference without Scheme.
func (r Reference) String() string {
	text := r.Host + "/" + r.Repository
	if r.Tag != "" {
		text += ":" + r.Tag
	}
	if r.Digest != "" {
		text += "@" + r.Digest
	}
	return text
}

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	digits = "0123456789"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

func only(text, letters string) bool { return text != "" && strings.Trim(text, letters) == "" }

// isHost is true for what cannot be a directory by mistake: a name with a dot or a port, or localhost.
func isHost(s string) bool {
	name, port, ported := strings.Cut(s, ":")
	if inside, found := strings.CutPrefix(s, "["); found { // an IPv6 address
		address, rest, closed := strings.Cut(inside, "]")
		port, ported = strings.CutPrefix(rest, ":")
		return closed && only(address, digits+"abcdefABCDEF:") && (rest == "" || ported && only(port, digits))
	}
	return only(name, lower+upper+digits+"-.") && strings.Trim(name, "-.") == name &&
		(strings.Contains(name, ".") || ported || name == "localhost") && (!ported || only(port, digits))
}

func isRepository(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if !only(part, lower+digits+"._-") || strings.Trim(part, "._-") != part || strings.Contains(part, "..") {
			return false
		}
	}
	return len(s) <= 255
}

func isTag(s string) bool {
	return only(s, lower+upper+digits+"._-") && s[0] != '.' && s[0] != '-' && len(s) <= 128
}

func isDigest(s string) bool {
	text, found := strings.CutPrefix(s, "sha256:")
	sum, err := hex.DecodeString(text)
	return found && err == nil && len(sum) == 32 && text == strings.ToLower(text)
}
