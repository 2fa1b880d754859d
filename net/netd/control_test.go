package netd

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"resinos/net/link/linktest"
	"resinos/net/netcontrol"
)

// A client sees links and profiles, takes a profile down and brings it up again, and is told why something cannot be.
func TestControl(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := keyed(t)
	d.control = filepath.Join(d.dir, "net.sock")
	d.put("office", static)
	d.put("cafe", "[connection]\nid=cafe\ntype=wifi\n[wifi]\nssid=x\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=hunter22\n")
	d.put("broken", "[connection]\nid=broken\n")
	d.start()
	d.has("w0", "10.9.0.50/24")
	client := netcontrol.Client{Socket: d.control}
	d.eventually("an answer", func() bool { _, err := client.Status(t.Context()); return err == nil })
	s, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(s.Links, func(l netcontrol.Link) bool { return l.Name == "w0" })
	if at < 0 || !s.Links[at].Managed || s.Links[at].Profile != "office" || s.Links[at].Method != "manual" ||
		!slices.Contains(s.Links[at].Addresses, "10.9.0.50/24") || !slices.Equal(s.Servers, []string{"10.9.0.3"}) {
		t.Errorf("status: %+v", s)
	}
	states := map[string]string{}
	for _, p := range s.Profiles {
		states[p.File] = p.State + p.Error
	}
	for file, want := range map[string]string{"office": "in force on w0", "cafe": "no link is there",
		"broken": "type: is missing"} {
		if !strings.Contains(states[file], want) {
			t.Errorf("%s: %q, want %q", file, states[file], want)
		}
	}
	plan, err := client.Plan(t.Context())
	if err != nil || len(plan) != 2 || plan[1].Link != "w0" || len(plan[1].Steps) < 5 || len(plan[1].Left) > 0 {
		t.Errorf("plan: %+v, %v", plan, err)
	}

	if err := client.Change(t.Context(), netcontrol.OpDown, "office"); err != nil {
		t.Error(err)
	}
	d.has("w0")
	if err := client.Change(t.Context(), netcontrol.OpUp, "office"); err != nil {
		t.Error(err)
	}
	d.has("w0", "10.9.0.50/24")
	for name, want := range map[string]string{"nothing": "is called", "cafe": "no link has the profile",
		"broken": "is called"} {
		if err := client.Change(t.Context(), netcontrol.OpUp, name); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("up %s: %v, want %q", name, err, want)
		}
	}
	if err := client.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if strings.Contains(d.log.String(), "hunter22") {
		t.Error("the log shows a password")
	}
}
