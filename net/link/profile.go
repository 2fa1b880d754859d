package link

// Method is the source of a link's addresses.
type Method string

// The methods.
const (
	DHCP     Method = "dhcp"
	Disabled Method = "disabled" // the link is not changed
)

// Profile is the wanted configuration of one link, or of every link of a kind, that has no key file.
type Profile struct {
	Name   string // name of the one link it is for; empty: every link of Kind
	Kind   Kind
	Method Method
	Metric int // the routes of the link get Metric plus a small number that differs for each link
}

// Defaults returns the profiles of a device without key files: DHCP on every wired link. A radio needs a key file.
func Defaults() []Profile {
	return []Profile{{Kind: Wired, Method: DHCP, Metric: 100}, {Kind: Wifi, Method: Disabled, Metric: 600},
		{Kind: Modem, Method: Disabled, Metric: 700}}
}

// Choose returns the first profile that claims the link: one that names it goes before one for its kind. A link that is
// part of a bridge or bond is never claimed.
func Choose(profiles []Profile, l Link) (Profile, bool) {
	if l.Kind == Member || l.Kind == Loopback {
		return Profile{}, false
	}
	for _, p := range profiles {
		if p.Name != "" && p.Name == l.Name {
			return p, true
		}
	}
	for _, p := range profiles {
		if p.Name == "" && p.Kind == l.Kind {
			return p, true
		}
	}
	return Profile{}, false
}

// MetricFor returns the metric of the link's routes. It depends only on the link, so that a restarted netd computes the
// same one; a link that was found earlier is preferred.
func (p Profile) MetricFor(l Link) int {
	return p.Metric + min(l.Index, 399)
}
