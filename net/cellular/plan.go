package cellular

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"resinos/net/modemstate"
)

// Verb is what is to be done with a modem.
type Verb string

// The verbs.
const (
	Wait       Verb = "wait"       // for what the modem says next
	SendPIN    Verb = "send PIN"   // of the profile
	Connect    Verb = "connect"    // with the profile
	Disconnect Verb = "disconnect" // from the profile that it was connected with
)

// Step is the next step of a modem, and how far it has come.
type Step struct {
	Verb   Verb
	Phase  modemstate.Phase
	Reason string // why it is not connected
}

// String is the step as a test prints it.
func (s Step) String() string { return fmt.Sprintf("%s: %s %s", s.Verb, s.Phase, s.Reason) }

// Situation is all that a step depends on.
type Situation struct {
	Modem   Modem
	SIM     SIM
	Profile *modemstate.Profile // nil: none is for the modem
	Used    string              // the file of the profile that it is connected with; empty: not by us
	Changed bool                // that profile says something else meanwhile
	Bearer  bool                // it has a connection that works
	Refused string              // why the PIN must not be tried; empty: it may
	Pause   time.Duration       // until the next try; 0: none is needed
	Last    string              // why the last try has failed
}

// Plan returns the next step.
func Plan(s Situation) Step {
	connected := s.Modem.State == stateConnected
	switch {
	case connected && (s.Profile == nil || s.Used != s.Profile.File || s.Changed || !s.Bearer):
		return Step{Disconnect, modemstate.Idle, s.Last}
	case s.Modem.State == stateFailed:
		return Step{Wait, modemstate.Failed, failure(s.Modem.Failure)}
	case s.Profile == nil:
		return Step{Wait, modemstate.Idle, "no key file is for it"}
	case s.Modem.State == stateLocked:
		return s.unlock()
	case connected:
		return Step{Wait, modemstate.Connected, ""}
	case s.Modem.State < stateDisabled:
		return Step{Wait, modemstate.Starting, s.Last}
	case s.Pause > 0:
		return Step{Wait, modemstate.Failed, s.Last}
	}
	return Step{Connect, s.searching(), s.Last}
}

func (s Situation) searching() modemstate.Phase {
	if s.Modem.State >= stateRegistered {
		return modemstate.Connecting
	}
	return modemstate.Searching
}

// unlock decides about the PIN. A wrong one costs a try, and the last try costs the SIM.
func (s Situation) unlock() Step {
	locked := func(format string, args ...any) Step {
		return Step{Wait, modemstate.Locked, fmt.Sprintf(format, args...)}
	}
	switch {
	case s.Modem.Lock != lockSIMPIN:
		return locked("the SIM is locked (%s): unlock it in a telephone", lockName(s.Modem.Lock))
	case s.Profile.PIN == "":
		return locked("the SIM wants a PIN, and %s has none", s.Profile.File)
	case len(s.Profile.PIN) < 4 || len(s.Profile.PIN) > 8 || strings.Trim(s.Profile.PIN, "0123456789") != "":
		return locked("the PIN of %s does not have four to eight digits", s.Profile.File)
	case s.Refused != "":
		return locked("%s", s.Refused)
	case s.Modem.Retries == 0 || s.Modem.Retries == 1:
		return locked("the SIM allows %d more tries: the PIN of %s is not tried", s.Modem.Retries, s.Profile.File)
	case s.Pause > 0:
		return locked("%s", s.Last)
	}
	return Step{SendPIN, modemstate.Starting, ""}
}

// Choose returns which profile is for which modem, by path. The first profile that fits a modem is for it.
func Choose(profiles []modemstate.Profile, modems []Modem, sims map[dbus.ObjectPath]SIM) map[dbus.ObjectPath]int {
	out, used := map[dbus.ObjectPath]int{}, map[int]bool{}
	for _, m := range modems {
		for i, p := range profiles {
			if !used[i] && fits(p, m, sims[m.Path]) {
				out[m.Path], used[i] = i, true
				break
			}
		}
	}
	return out
}

// fits reports whether a profile may be for a modem. What a locked SIM does not say yet does not fit.
func fits(p modemstate.Profile, m Modem, s SIM) bool {
	return (p.Port == "" || p.Port == m.Port || slices.Contains(m.Ports, p.Port)) &&
		(p.Device == "" || p.Device == m.DeviceID) && (p.SIM == "" || p.SIM == s.ID) &&
		(p.Operator == "" || p.Operator == s.Operator)
}

// Request is what Simple.Connect is called with. It never holds the PIN.
func Request(p modemstate.Profile) map[string]dbus.Variant {
	out := map[string]dbus.Variant{"apn": dbus.MakeVariant(p.APN), "allow-roaming": dbus.MakeVariant(!p.HomeOnly),
		"ip-type": dbus.MakeVariant(uint32(1))} // IPv4
	for name, value := range map[string]string{"user": p.User, "password": p.Password,
		"operator-id": p.NetworkID} {
		if value != "" {
			out[name] = dbus.MakeVariant(value)
		}
	}
	return out
}

// The pauses after a try that has failed.
const (
	firstPause = 5 * time.Second
	lastPause  = 5 * time.Minute
)

// Pause returns how long to wait after so many failures in a row.
func Pause(failures int) time.Duration {
	pause := firstPause
	for range failures - 1 {
		if pause *= 2; pause >= lastPause {
			return lastPause
		}
	}
	return pause
}

// failure says why a modem has failed, of MMModemStateFailedReason.
func failure(reason uint32) string {
	names := []string{"ModemManager cannot use it", "", "it has no SIM", "the SIM cannot be used",
		"what it can do is not known", "the eSIM is not set up"}
	if int(reason) < len(names) && names[reason] != "" {
		return names[reason]
	}
	return names[0]
}

// lockName names a lock, of MMModemLock.
func lockName(lock uint32) string {
	names := []string{"unknown", "none", "SIM PIN", "SIM PIN 2", "SIM PUK", "SIM PUK 2"}
	if int(lock) < len(names) {
		return names[lock]
	}
	return fmt.Sprintf("lock %d", lock)
}

// Words says in short why ModemManager has refused something. text is in ModemManager's or the modem's words.
func Words(name, text string) string {
	short := name[strings.LastIndexByte(name, '.')+1:]
	known := map[string]string{
		"IncorrectPassword": "the PIN is wrong", "SimNotInserted": "it has no SIM", "SimPuk": "the SIM wants its PUK",
		"SimWrong": "the SIM does not fit", "ServiceOptionNotSubscribed": "the SIM's contract does not include data",
		"GprsServiceOptionNotSubscribed": "the SIM's contract does not include data",
		"UserAuthenticationFailed":       "the network refuses user name or password",
		"MissingOrUnknownApn":            "the network does not know the APN", "NoNetwork": "no network is in range",
		"NetworkNotAllowed": "only emergency calls are allowed", "NoCarrier": "the network has not answered the call",
	}
	if w := known[short]; w != "" {
		return w
	}
	return Printable(text)
}

// PINWrong reports whether an error of ModemManager means that the SIM has counted a wrong PIN.
func PINWrong(name string) bool {
	for _, end := range []string{".IncorrectPassword", ".SimPuk", ".SimWrong"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}
