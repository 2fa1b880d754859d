package cellular

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"resinos/mounts/testenv"
	"resinos/net/modemstate"
)

// locked is a modem whose SIM wants a PIN.
func locked(retries int) Modem { return Modem{State: stateLocked, Lock: lockSIMPIN, Retries: retries} }

func TestPlan(t *testing.T) {
	p := &modemstate.Profile{File: "mobile", APN: "internet", PIN: "1234"}
	with := func(pin string) *modemstate.Profile { return &modemstate.Profile{File: "mobile", PIN: pin} }
	var out strings.Builder
	for _, test := range []struct {
		name string
		s    Situation
	}{
		{"no profile", Situation{Modem: Modem{State: stateRegistered}}},
		{"no SIM", Situation{Modem: Modem{State: stateFailed, Failure: 2}, Profile: p}},
		{"an unknown failure", Situation{Modem: Modem{State: stateFailed, Failure: 1 << 31}, Profile: p}},
		{"initializing", Situation{Modem: Modem{State: 1}, Profile: p}},
		{"PIN", Situation{Modem: locked(3), Profile: p}},
		{"PIN, tries not known", Situation{Modem: locked(-1), Profile: p}},
		{"PIN, one try left", Situation{Modem: locked(1), Profile: p}},
		{"PIN, none left", Situation{Modem: locked(0), Profile: p}},
		{"PIN refused before", Situation{Modem: locked(2), Profile: p, Refused: "wrong"}},
		{"PIN after another failure", Situation{Modem: locked(3), Profile: p, Pause: time.Second, Last: "no answer"}},
		{"no PIN", Situation{Modem: locked(3), Profile: with("")}},
		{"PIN that is a command", Situation{Modem: locked(3), Profile: with("1\"\r\nATD112;")}},
		{"PUK", Situation{Modem: Modem{State: stateLocked, Lock: 4}, Profile: p}},
		{"a lock that nobody knows", Situation{Modem: Modem{State: stateLocked, Lock: 1 << 31}, Profile: p}},
		{"disabled", Situation{Modem: Modem{State: stateDisabled}, Profile: p}},
		{"registered", Situation{Modem: Modem{State: stateRegistered}, Profile: p}},
		{"registered, after a failure", Situation{Modem: Modem{State: stateRegistered}, Profile: p, Pause: 1,
			Last: "busy"}},
		{"connected", Situation{Modem: Modem{State: stateConnected}, Profile: p, Used: "mobile", Bearer: true}},
		{"connected, pppd has ended", Situation{Modem: Modem{State: stateConnected}, Profile: p, Used: "mobile"}},
		{"connected by somebody else", Situation{Modem: Modem{State: stateConnected}, Profile: p,
			Bearer: true}},
		{"connected, the profile is gone", Situation{Modem: Modem{State: stateConnected}, Used: "mobile",
			Bearer: true}},
		{"connected, the profile has changed", Situation{Modem: Modem{State: stateConnected}, Profile: p,
			Used: "mobile", Bearer: true, Changed: true}},
	} {
		fmt.Fprintf(&out, "%s -> %s\n", test.name, Plan(test.s))
	}
	testenv.Golden(t, "plans.golden", out.String())
}

func TestChoose(t *testing.T) {
	profiles := []modemstate.Profile{{File: "a", SIM: "1"}, {File: "b", Port: "ttyUSB3"},
		{File: "c", Operator: "26201"}, {File: "d"}}
	modems := []Modem{{Path: "/0", Ports: []string{"ttyUSB3"}}, {Path: "/1"}, {Path: "/2"}, {Path: "/3"}}
	sims := map[dbus.ObjectPath]SIM{"/1": {ID: "1"}, "/2": {ID: "2"}}
	got := fmt.Sprint(Choose(profiles, modems, sims))
	if want := "map[/0:1 /1:0 /2:3]"; got != want {
		t.Errorf("Choose = %s, want %s", got, want)
	}
}

func TestRequestHasNoPIN(t *testing.T) {
	got := fmt.Sprint(Request(modemstate.Profile{APN: "a", User: "u", Password: "p", PIN: "1234", HomeOnly: true,
		NetworkID: "26201"}))
	if strings.Contains(got, "1234") {
		t.Errorf("Request holds the PIN: %s", got)
	}
	for _, want := range []string{`apn:"a"`, `user:"u"`, `password:"p"`, "allow-roaming:false", `operator-id:"26201"`} {
		if !strings.Contains(got, want) {
			t.Errorf("Request = %s, want %s in it", got, want)
		}
	}
}

func TestPause(t *testing.T) {
	for failures, want := range map[int]time.Duration{1: 5 * time.Second, 2: 10 * time.Second, 4: 40 * time.Second,
		7: 5 * time.Minute, 1 << 40: 5 * time.Minute} {
		if got := Pause(failures); got != want {
			t.Errorf("Pause(%d) = %s, want %s", failures, got, want)
		}
	}
}

func v(value any) dbus.Variant { return dbus.MakeVariant(value) }

func TestReadsModems(t *testing.T) {
	three := map[string]dbus.Variant{"OperatorName": v("Net\x1b[2J"), "RegistrationState": v(uint32(5))}
	reply := []any{map[dbus.ObjectPath]map[string]map[string]dbus.Variant{
		"/b": {modem: {}},
		"/c": {"org.example.Other": {}},
		"/a": {threeGPP: three, modem: {"State": v(int32(11)), "UnlockRequired": v(uint32(2)),
			"Sim":           v(dbus.ObjectPath("/sim")),
			"UnlockRetries": v(map[uint32]uint32{2: 1 << 31}), "Ports": v([][]any{{"ttyUSB0", uint32(1)}, {}, {7}}),
			"SignalQuality": v([]any{uint32(400), true}), "AccessTechnologies": v(uint32(1 << 14)),
			"Model": v([]byte("x"))}},
	}}
	got := Modems(reply)
	if len(got) != 2 || got[0].Path != "/a" || got[1].Retries != -1 {
		t.Fatalf("Modems = %+v", got)
	}
	if m := got[0]; m.Operator != "Net?[2J" || !m.Roaming || m.Retries != maxRetries || len(m.Ports) != 1 ||
		m.Signal != 100 || m.Technology != "LTE" || m.SIM != "/sim" || m.Model != "" {
		t.Errorf("Modems = %+v", m)
	}
	for _, hostile := range [][]any{nil, {nil}, {"x"}, {map[string]string{}}} {
		if got := Modems(hostile); got != nil {
			t.Errorf("Modems(%v) = %v", hostile, got)
		}
	}
}

func TestReadsBearers(t *testing.T) {
	read := func(port string, ip map[string]dbus.Variant) Bearer {
		return ReadBearer("/b", []any{map[string]dbus.Variant{"Connected": v(true), "Interface": v(port),
			"Ip4Config": v(ip)}})
	}
	serial := read("ttyUSB0", map[string]dbus.Variant{"method": v(uint32(1))})
	if b := serial; !b.PPP || !b.Connected || b.IP.Link != "" {
		t.Errorf("PPP: %+v", b)
	}
	if b := read("wwan0", map[string]dbus.Variant{"method": v(uint32(3))}); !b.IP.DHCP || b.IP.Link != "wwan0" {
		t.Errorf("DHCP: %+v", b)
	}
	b := read("wwan0", map[string]dbus.Variant{"method": v(uint32(2)), "address": v("10.1.2.3"),
		"prefix": v(uint32(30)), "gateway": v("10.1.2.1"), "dns1": v("127.0.0.1"), "dns2": v("10.9.9.9"),
		"mtu": v(uint32(68))})
	if fmt.Sprint(b.IP) != "{wwan0 false false 10.1.2.3/30 10.1.2.1 [10.9.9.9] 0}" {
		t.Errorf("static: %+v", b.IP)
	}
	for _, port := range []string{"", "../../etc/passwd", "a/b", ".", "..", "a b", "tty\n", strings.Repeat("x", 40)} {
		if b := read(port, map[string]dbus.Variant{"method": v(uint32(1))}); b.Connected || b.Port != "" {
			t.Errorf("port %q is used: %+v", port, b)
		}
	}
	for _, ip := range []map[string]dbus.Variant{{"method": v("x")}, {"method": v(uint32(2)), "address": v("x")},
		{"method": v(uint32(2)), "address": v("10.1.2.3"), "prefix": v(uint32(33))}} {
		if b := read("wwan0", ip); b.IP.Address.IsValid() {
			t.Errorf("address of %v: %+v", ip, b.IP)
		}
	}
}

func TestNoPINIsTriedTwice(t *testing.T) {
	p := PINs{Path: filepath.Join(t.TempDir(), "modem", "pins.json")}
	salt := func() string { return "salt" }
	refused := func(want bool, sim, pin string, left int) {
		t.Helper()
		if got := p.Refused(sim, pin, left); (got != "") != want {
			t.Errorf("Refused(%s, %s, %d) = %q", sim, pin, left, got)
		}
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	refused(false, "sim", "1111", 3)
	check(p.Begin("sim", "1111", 3, salt))
	refused(false, "sim", "1111", 3) // the power went before the modem has seen it
	refused(true, "sim", "1111", 2)  // or after
	refused(true, "sim", "1111", -1) // or nobody knows
	check(p.Failed("sim"))
	refused(true, "sim", "1111", 3) // somebody has unlocked the SIM elsewhere: it is still the wrong one
	refused(false, "sim", "2222", 2)
	refused(false, "other", "1111", 3)
	check(p.Begin("sim", "2222", 2, salt))
	check(p.Taken("sim"))
	refused(false, "sim", "2222", 3)

	text, err := os.ReadFile(p.Path)
	check(err)
	for _, secret := range []string{"1111", "2222"} {
		if strings.Contains(string(text), `"`+secret) {
			t.Errorf("the file holds the PIN %s: %s", secret, text)
		}
	}
	check(p.Begin("sim", "1111", -1, salt))
	check(os.WriteFile(p.Path, text[:len(text)/2], 0o600))
	refused(true, "sim", "3333", 3) // which have failed is not known any more
	if err := p.Begin("sim", "3333", 3, salt); err == nil {
		t.Error("a try begins that cannot be remembered")
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("Net\x00\x1b]0;x\a")
	f.Fuzz(func(t *testing.T, text string) {
		got := Printable(text)
		if len(got) > maxWords+8 || strings.ContainsAny(got, "\x00\x1b\n\r") {
			t.Errorf("Printable(%q) = %q", text, got)
		}
	})
}
