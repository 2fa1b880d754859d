package wifi

import (
	"strings"

	"resinos/net/profile"
)

// systemCAs is the file with all certificate authorities that the image trusts.
const systemCAs = "/etc/ssl/certs/ca-certificates.crt"

// eap puts what [802-1x] says. profilecheck has accepted its words.
func (n *plan) eap(e *profile.EAP) {
	if e == nil {
		n.fault("the section [802-1x] is missing")
		return
	}
	var methods []string
	for _, m := range e.Methods {
		if m == "external" || m == "leap" {
			n.fault("[802-1x] eap: %s has no driver", m)
		}
		methods = append(methods, strings.ToUpper(m))
	}
	n.put("eap", strings.Join(methods, " "))
	n.text("identity", e.Identity)
	n.text("anonymous_identity", e.AnonymousIdentity)
	switch {
	case e.Password.Reveal() != "":
		n.secret("password", e.Password)
	case e.PasswordRaw.Reveal() != "":
		n.secret("password", e.PasswordRaw)
	case e.PasswordFlags != 0:
		n.fault("[802-1x] password: is missing: with password-flags=%d somebody has to be asked for it, "+
			"and nobody is there", e.PasswordFlags)
	}
	n.outer(e)
	n.inner(e)
}

// outer puts the settings of the outer method.
func (n *plan) outer(e *profile.EAP) {
	if e.CACert == "" && e.SystemCAs {
		n.text("ca_cert", systemCAs)
	}
	n.certificate("ca_cert", e.CACert)
	n.certificate("client_cert", e.ClientCert)
	n.certificate("private_key", e.PrivateKey)
	n.secret("private_key_passwd", e.KeyPassword)
	n.text("subject_match", e.SubjectMatch)
	n.text("altsubject_match", strings.Join(e.AltSubject, ";"))
	n.text("domain_match", e.DomainMatch)
	n.text("domain_suffix_match", e.DomainSuffix)
	var phase1 []string
	for _, one := range []struct{ name, value string }{
		{"peapver", e.Phase1PEAPVer}, {"peaplabel", e.Phase1PEAPLabel}, {"fast_provisioning", e.Phase1Fast},
	} {
		if one.value != "" {
			phase1 = append(phase1, one.name+"="+one.value)
		}
	}
	for bit, word := range []string{"tls_disable_tlsv1_0", "tls_disable_tlsv1_1", "tls_disable_tlsv1_2",
		"tls_disable_time_checks", "tls_disable_tlsv1_3"} {
		flag := int64(1) << bit // NM_SETTING_802_1X_AUTH_FLAGS of NetworkManager
		if e.Phase1Flags&flag != 0 {
			phase1 = append(phase1, word+"=1")
		}
	}
	n.text("phase1", strings.Join(phase1, " "))
}

// inner puts the settings of the method within the tunnel.
func (n *plan) inner(e *profile.EAP) {
	switch {
	case e.Phase2AuthEAP != "":
		n.text("phase2", "autheap="+strings.ToUpper(e.Phase2AuthEAP))
	case e.Phase2Auth != "":
		n.text("phase2", "auth="+strings.ToUpper(e.Phase2Auth))
	}
	n.certificate("ca_cert2", e.Phase2CACert)
	n.certificate("client_cert2", e.Phase2Client)
	n.certificate("private_key2", e.Phase2Key)
	n.secret("private_key2_passwd", e.Phase2KeyPassword)
	n.text("subject_match2", e.Phase2Subject)
	n.text("altsubject_match2", strings.Join(e.Phase2AltSubject, ";"))
	n.text("domain_match2", e.Phase2Domain)
	n.text("domain_suffix_match2", e.Phase2Suffix)
}
