package profilecheck

import (
	"errors"

	"resinos/net/profile"
)

// checkEAP judges the section [802-1x].
func checkEAP(p *profile.Profile) error {
	e := p.EAP
	if e == nil {
		return nil
	}
	const s = "802-1x"
	if len(e.Methods) == 0 {
		return fault(s, "eap", "is missing")
	}
	methods := []string{"leap", "md5", "tls", "peap", "ttls", "sim", "fast", "pwd", "external"}
	if err := allOf(s, "eap", e.Methods, methods...); err != nil {
		return err
	}
	if e.Optional && p.Connection.Type != profile.TypeEthernet {
		return fault(s, "optional", "is for ethernet only")
	}
	for _, method := range e.Methods {
		if err := checkMethod(e, method); err != nil {
			return err
		}
	}
	return errors.Join(
		oneOf(s, "phase1-peapver", e.Phase1PEAPVer, "0", "1"),
		oneOf(s, "phase1-peaplabel", e.Phase1PEAPLabel, "0", "1"),
		oneOf(s, "phase1-fast-provisioning", e.Phase1Fast, "0", "1", "2", "3"),
		oneOf(s, "phase2-auth", e.Phase2Auth, "pap", "chap", "mschap", "mschapv2", "gtc", "otp", "md5", "tls"),
		oneOf(s, "phase2-autheap", e.Phase2AuthEAP, "md5", "mschapv2", "otp", "gtc", "tls"))
}

// checkMethod judges what one EAP method needs.
func checkMethod(e *profile.EAP, method string) error {
	const s = "802-1x"
	switch method {
	case "tls":
		return checkTLS(e, false)
	case "peap", "fast":
		if e.Phase2Auth == "" && e.Phase2AuthEAP == "" || e.Phase2Auth != "" && e.Phase2AuthEAP != "" {
			return fault(s, "phase2-auth", "exactly one of phase2-auth and phase2-autheap must be set")
		}
	case "ttls":
		if e.Identity == "" {
			return fault(s, "identity", "is missing")
		}
		if (e.Phase2Auth == "") == (e.Phase2AuthEAP == "") {
			return fault(s, "phase2-auth", "exactly one of phase2-auth and phase2-autheap must be set")
		}
	case "md5", "leap", "pwd":
		if e.Identity == "" {
			return fault(s, "identity", "is missing")
		}
	}
	tunnel := method == "peap" || method == "fast" || method == "ttls"
	if tunnel && (e.Phase2Auth == "tls" || e.Phase2AuthEAP == "tls") {
		return checkTLS(e, true)
	}
	return nil
}

// checkTLS judges the certificates of EAP-TLS, in the outer or the inner method.
func checkTLS(e *profile.EAP, inner bool) error {
	const s = "802-1x"
	client, key := e.ClientCert, e.PrivateKey
	if inner {
		client, key = e.Phase2Client, e.Phase2Key
	}
	switch {
	case !inner && e.Identity == "":
		return fault(s, "identity", "is missing")
	case client == "":
		return fault(s, "client-cert", "is missing")
	case key == "":
		return fault(s, "private-key", "is missing")
	}
	return nil
}
