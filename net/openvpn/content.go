package openvpn

import (
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strings"
)

// pemOf reads certificates and keys, and writes them again: what stands around them does not reach openvpn.
func pemOf(text []byte) (string, error) {
	var out strings.Builder
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		switch block.Type {
		case "CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CRL", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "EC PRIVATE KEY",
			"RSA PRIVATE KEY", "OpenVPN tls-crypt-v2 client key":
		case "EC PARAMETERS": // of the key that follows, which has them too
			continue
		default:
			return "", errors.New("holds neither a certificate nor a key: " + name(block.Type))
		}
		headers := map[string]string{}
		for _, name := range []string{"Proc-Type", "DEK-Info"} { // of a key with a password
			if value, there := block.Headers[name]; there {
				headers[name] = value
			}
		}
		block.Headers = headers
		if err := pem.Encode(&out, block); err != nil {
			return "", err
		}
	}
	if out.Len() == 0 {
		return "", errors.New("holds no certificate or key in PEM")
	}
	return out.String(), nil
}

// name shows a text of a stranger's file.
func name(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), 60)]
}

// The form of static keys: 2048 bits in hexadecimal.
const (
	staticBegin = "-----BEGIN OpenVPN Static key V1-----"
	staticEnd   = "-----END OpenVPN Static key V1-----"
	staticBytes = 256
)

// staticKey reads a key that both ends have, and writes it again.
func staticKey(text []byte) (string, error) {
	_, inner, begins := strings.Cut(string(text), staticBegin)
	inner, _, ends := strings.Cut(inner, staticEnd)
	key, err := hex.DecodeString(strings.Join(strings.Fields(inner), ""))
	if !begins || !ends || err != nil || len(key) != staticBytes {
		return "", errors.New("holds no static key of openvpn (2048 bits)")
	}
	var out strings.Builder
	out.WriteString(staticBegin + "\n")
	for ; len(key) > 0; key = key[16:] {
		out.WriteString(hex.EncodeToString(key[:16]) + "\n")
	}
	out.WriteString(staticEnd + "\n")
	return out.String(), nil
}

// fingerprints reads the digests of certificates, one a line.
func fingerprints(text []byte) (string, error) {
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		sum, err := hex.DecodeString(strings.ReplaceAll(line, ":", ""))
		if err != nil || len(sum) != 32 {
			return "", errors.New("holds something else than SHA-256 digests")
		}
		out.WriteString(Fingerprint(sum) + "\n")
	}
	if out.Len() == 0 {
		return "", errors.New("holds no digest")
	}
	return out.String(), nil
}

// Fingerprint returns a digest as openvpn and openssl write it: AB:CD:…
func Fingerprint(sum []byte) string {
	parts := make([]string, len(sum))
	for i := range sum {
		parts[i] = strings.ToUpper(hex.EncodeToString(sum[i : i+1]))
	}
	return strings.Join(parts, ":")
}
