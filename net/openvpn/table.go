package openvpn

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"resinos/services/hostname"
)

// ofKey says what becomes of a key of [vpn].
type ofKey struct {
	directive string // with the value as its words; empty: it is called like the key
	flag      bool   // it has no words, and is there if the value is yes
	elsewhere bool   // handled by its own function, or it means what is so anyway
}

// ofKeys are the keys of [vpn] that are known, those of NetworkManager-openvpn.
func ofKeys() map[string]ofKey {
	return map[string]ofKey{
		"remote": {elsewhere: true}, "port": {elsewhere: true}, "proto": {elsewhere: true},
		"proto-tcp":       {elsewhere: true},
		"connection-type": {elsewhere: true}, "ca": {elsewhere: true}, "cert": {elsewhere: true},
		"key":        {elsewhere: true},
		"static-key": {elsewhere: true}, "static-key-direction": {elsewhere: true}, "local-ip": {elsewhere: true},
		"remote-ip": {elsewhere: true}, "ta": {elsewhere: true}, "ta-dir": {elsewhere: true},
		"tls-crypt": {elsewhere: true}, "tls-crypt-v2": {elsewhere: true}, "extra-certs": {elsewhere: true},
		"dev": {elsewhere: true}, "dev-type": {elsewhere: true}, "tap-dev": {elsewhere: true},
		"username": {elsewhere: true}, "password-flags": {elsewhere: true}, "cert-pass-flags": {elsewhere: true},
		"verify-x509-name": {elsewhere: true}, "tun-ipv6": {elsewhere: true}, "ping-exit": {elsewhere: true},
		"max-routes": {elsewhere: true}, "challenge-response-flags": {elsewhere: true},
		"http-proxy-password-flags": {elsewhere: true},

		"auth": {}, "cipher": {}, "data-ciphers": {}, "data-ciphers-fallback": {}, "tls-cipher": {},
		"tls-version-min": {},
		"tls-version-max": {}, "remote-cert-tls": {}, "mssfix": {}, "fragment-size": {directive: "fragment"},
		"tunnel-mtu": {directive: "tun-mtu"}, "mtu-disc": {}, "reneg-seconds": {directive: "reneg-sec"}, "ping": {},
		"ping-restart": {}, "connect-timeout": {}, "compress": {}, "comp-lzo": {}, "allow-compression": {},
		"float": {flag: true}, "remote-random": {flag: true}, "push-peer-info": {flag: true},
		"remote-random-hostname": {flag: true},
	}
}

// consists reports whether a text has 1 to longest bytes, all of them letters, digits or among others.
func consists(text string, longest int, others string) bool {
	return text != "" && len(text) <= longest && !strings.ContainsFunc(text, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune(others, r)
	})
}

// allowed are the directives of files .ovpn that openvpn gets, with the form of their words: [x] may be missing, x…
// stands for any number.
func allowed() map[string]string {
	return map[string]string{
		"client": "", "tls-client": "", "pull": "", "nobind": "", "float": "", "remote-random": "",
		"remote-random-hostname": "", "fast-io": "", "push-peer-info": "", "route-nopull": "", "comp-noadapt": "",
		"auth-user-pass": "", "remote": "host [number] [protocol]", "port": "number", "rport": "number",
		"lport": "number",
		"local": "host", "proto": "protocol", "dev-type": "device", "topology": "word",
		"ifconfig": "host host", "ifconfig-ipv6": "word host", "route": "host [host] [host] [number]",
		"route-ipv6": "word [host] [number]", "route-gateway": "host", "route-metric": "number",
		"redirect-gateway": "word…", "redirect-private": "word…", "dhcp-option": "word text", "dns": "word word word…",
		"pull-filter": "word text",
		"cipher":      "word", "data-ciphers": "word", "ncp-ciphers": "word", "data-ciphers-fallback": "word",
		"auth":       "word",
		"tls-cipher": "word", "tls-ciphersuites": "word", "tls-groups": "word", "tls-cert-profile": "word",
		"tls-version-min": "word [word]", "tls-version-max": "word", "remote-cert-tls": "word",
		"remote-cert-ku":  "word…",
		"remote-cert-eku": "text", "verify-x509-name": "text [word]", "peer-fingerprint": "word",
		"key-direction": "number",
		"allow-deprecated-insecure-static-crypto": "",
		"tun-mtu": "number [number]", "fragment": "number [word]", "mssfix": "[number] [word]", "mtu-disc": "word",
		"sndbuf": "number", "rcvbuf": "number", "comp-lzo": "[word]", "compress": "[word]", "allow-compression": "word",
		"keepalive": "number number", "ping": "number", "ping-restart": "number", "ping-timer-rem": "",
		"explicit-exit-notify": "[number]", "reneg-sec": "number [number]", "reneg-bytes": "number",
		"reneg-pkts": "number", "hand-window": "number", "tran-window": "number", "tls-timeout": "number",
		"replay-window": "number [number]", "connect-timeout": "number", "server-poll-timeout": "number",
		"http-proxy": "host number", "http-proxy-retry": "", "socks-proxy": "host [number]",
	}
}

// settled are directives that change nothing here: what they ask for is so, or another device's concern.
func settled() map[string]bool {
	return map[string]bool{
		"resolv-retry": true, "connect-retry": true, "connect-retry-max": true, "persist-key": true,
		"persist-tun": true,
		"auth-retry":  true, "auth-nocache": true, "verb": true, "mute": true, "mute-replay-warnings": true,
		"nice":  true,
		"mlock": true, "route-delay": true, "route-method": true, "tun-ipv6": true, "block-outside-dns": true,
		"register-dns": true, "block-ipv6": true, "max-routes": true, "txqueuelen": true, "inactive": true,
		"ping-exit": true, "tls-exit": true, "ecdh-curve": true, "disable-occ": true, "key-method": true,
		"ignore-unknown-option": true, "setenv-safe": true, "disable-dco": true, "opt-verify": true, "win-sys": true,
		"windows-driver": true, "ip-win32": true, "bind": true, "suppress-timestamps": true, "keysize": true,
		"ifconfig-nowarn": true, "connection-type": true, "machine-readable-output": true, "dev-node": true,
	}
}

// The reasons why directives are refused.
const (
	runs    = "it runs a program"
	files   = "it names a file or directory that openvpn would read or write"
	process = "the device itself decides how openvpn runs and where it writes"
	serves  = "the file is for a client; the device is a server by: osctl net vpn-server add NAME"
	weaker  = "openvpn has no such directive any more; use remote-cert-tls server"
)

// refused are the directives that cost the whole file, with the reason. All that are in no table are refused too.
func refused() map[string]string {
	return map[string]string{
		"up": runs, "down": runs, "up-restart": runs, "down-pre": runs, "up-delay": runs, "script-security": runs,
		"plugin": runs, "route-up": runs, "route-pre-down": runs, "ipchange": runs, "tls-verify": runs,
		"auth-user-pass-verify": runs, "client-connect": runs, "client-disconnect": runs, "learn-address": runs,
		"client-crresponse": runs, "iproute": runs, "tls-crypt-v2-verify": runs, "engine": runs, "providers": runs,
		"pkcs11-providers": runs, "pkcs11-id": runs,
		"config": files, "cd": files, "chroot": files, "log": files, "log-append": files, "writepid": files,
		"status": files,
		"capath": files, "tmp-dir": files, "askpass": files, "replay-persist": files, "pkcs12": files,
		"tls-export-cert": files, "ifconfig-pool-persist": files, "client-config-dir": files,
		"management": process, "management-client": process, "management-hold": process, "management-signal": process,
		"management-query-passwords": process, "management-query-remote": process, "management-query-proxy": process,
		"management-up-down": process, "management-forget-disconnect": process, "management-log-cache": process,
		"management-external-key": process, "management-external-cert": process, "management-client-auth": process,
		"management-client-user": process, "management-client-group": process,
		"daemon": process, "syslog": process, "user": process, "group": process, "setcon": process, "inetd": process,
		"mark": process, "bind-dev": process, "vlan-tagging": process, "ifconfig-noexec": process,
		"route-noexec": process,
		"setenv":       process, "echo": process, "errors-to-stderr": process, "remap-usr1": process,
		"server": serves, "server-ipv6": serves, "server-bridge": serves, "mode": serves, "tls-server": serves,
		"push": serves, "ifconfig-pool": serves, "client-to-client": serves, "duplicate-cn": serves, "dh": serves,
		"ns-cert-type": weaker, "tls-remote": weaker,
	}
}

// judge returns why openvpn does not get a directive with these words.
func judge(name string, words []string) error {
	form, known := allowed()[name]
	if !known {
		if why := refused()[name]; why != "" {
			return errors.New(why + "; remove the line")
		}
		return errors.New("the device knows no such directive; remove the line")
	}
	rest := words
	for _, f := range strings.Fields(form) {
		inner, many := strings.CutSuffix(f, "…")
		optional := f[0] == '['
		inner = strings.Trim(inner, "[]")
		switch {
		case len(rest) == 0 && (optional || many):
			continue
		case len(rest) == 0:
			return fmt.Errorf("needs %s", form)
		}
		n := 1
		if many {
			n = len(rest)
		}
		for _, one := range rest[:n] {
			if !fits(inner, one) {
				return fmt.Errorf("a word is no %s; it takes: %s", inner, form)
			}
		}
		rest = rest[n:]
	}
	if len(rest) > 0 {
		return fmt.Errorf("has too many words; it takes: %s", cmp.Or(form, "none"))
	}
	return nil
}

// fits reports whether a word has a form.
func fits(form, text string) bool {
	switch form {
	case "number":
		_, err := strconv.ParseUint(text, 10, 63)
		return err == nil
	case "host": // openvpn resolves names with a dot at the end too, and takes 0.0.0.0 in routes
		_, err := netip.ParseAddr(text)
		return err == nil || hostname.Valid(strings.TrimSuffix(text, "."))
	case "protocol":
		switch text {
		case "udp", "udp4", "udp6", "tcp", "tcp4", "tcp6", "tcp-client", "tcp4-client", "tcp6-client":
			return true
		}
		return false
	case "device":
		return text == "tun" || text == "tap"
	case "word":
		return consists(text, 200, "._:+,@=!/-")
	}
	return printable(text)
}

// printable reports whether a text can be a word of a line.
func printable(text string) bool {
	return len(text) <= 200 && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// addressOf returns an address that openvpn has written; the zero value if it is none.
func addressOf(text string) netip.Addr {
	a, _ := netip.ParseAddr(text)
	return a.Unmap()
}
