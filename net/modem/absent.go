package modem

import (
	"slices"
	"time"

	"resinos/net/cellular"
	"resinos/net/modemports"
)

// absent finds the modems whose ports ModemManager has to be told of again. It gives a modem up that has not answered
// ten commands, or not when its ports were announced, and does not look at them again by itself. Modems are named by
// their hardware, as modemports has it.
type absent map[string]time.Time // when the ports are announced again, if no modem has them then

// patience is how long ModemManager may look at the ports of a modem before it is told of them again.
const patience = 5 * time.Minute

// again returns which hardware is to be announced again, sorted: at once when its modem has gone, and then, as without
// any modem so far, after each patience. announced has all ports that are there.
func (a absent) again(now time.Time, announced map[modemports.Port]bool, modems []cellular.Modem) []string {
	alive := map[string]bool{}
	for p := range announced {
		alive[p.Device] = alive[p.Device] || slices.ContainsFunc(modems, func(m cellular.Modem) bool {
			return m.Port == p.Name || slices.Contains(m.Ports, p.Name)
		})
	}
	var out []string
	for device, lives := range alive {
		next, known := a[device]
		switch {
		case lives:
			a[device] = now
		case !known:
			a[device] = now.Add(patience)
		case !now.Before(next):
			a[device] = now.Add(patience)
			out = append(out, device)
		}
	}
	for device := range a {
		if _, there := alive[device]; !there {
			delete(a, device)
		}
	}
	slices.Sort(out)
	return out
}
