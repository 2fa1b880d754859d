// Package modemports finds the ports of modems in sysfs: serial lines, control nodes and links. It opens none of them:
// a question to a device that is no modem may do harm. Read first: Find.
package modemports

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Port is one port of a modem, by the names that the kernel has for it.
type Port struct {
	Subsystem string // tty, usbmisc, net or wwan
	Name      string
	Device    string // the path in sysfs of the hardware that it is part of
}

// drivers are those of ports that only modems have, by subsystem. Cables between a serial line and USB have others.
var drivers = map[string][]string{
	"tty":     {"option", "option1", "qcserial", "qcaux", "sierra", "hso", "ipwtty", "nozomi"},
	"usbmisc": {"qmi_wwan", "cdc_mbim", "huawei_cdc_ncm"},
	"net":     {"qmi_wwan", "cdc_mbim", "huawei_cdc_ncm", "sierra_net", "hso"},
}

// Find returns the ports of modems. named are ports that count as those of a modem whatever they are. sys is /sys.
func Find(sys string, named []string) []Port {
	var all, out []Port
	modems := map[string]bool{}
	for _, subsystem := range []string{"tty", "usbmisc", "net", "wwan"} {
		entries, _ := os.ReadDir(filepath.Join(sys, "class", subsystem)) // a class comes with its first driver
		for _, e := range entries {
			dir, err := filepath.EvalSymlinks(filepath.Join(sys, "class", subsystem, e.Name()))
			if err != nil {
				continue // it has gone
			}
			p := Port{subsystem, e.Name(), hardware(dir)}
			if p.Device == "" {
				continue
			}
			all = append(all, p)
			if known(p, dir) || slices.Contains(named, p.Name) {
				modems[p.Device] = true
			}
		}
	}
	for _, p := range all {
		if modems[p.Device] {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Device, b.Device), cmp.Compare(a.Subsystem, b.Subsystem),
			cmp.Compare(a.Name, b.Name))
	})
	return out
}

// hardware returns the device on a bus that dir is part of: the USB device, or what is not on USB itself. Empty: none.
func hardware(dir string) string {
	device, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
	if err != nil {
		return ""
	}
	for up := device; len(up) > 1; up = filepath.Dir(up) {
		if _, err := os.Stat(filepath.Join(up, "idVendor")); err == nil {
			return up
		}
	}
	for _, part := range []string{"/platform/", "/pnp", "/virtual/"} {
		if strings.Contains(device, part) {
			return "" // the serial lines of the board itself
		}
	}
	return device
}

// known reports whether a port is one that only modems have.
func known(p Port, dir string) bool {
	if p.Subsystem == "wwan" {
		return true
	}
	if p.Subsystem == "net" && strings.Contains("\n"+text(dir, "uevent"), "\nDEVTYPE=wwan\n") {
		return true
	}
	driver, _ := os.Readlink(filepath.Join(dir, "device", "driver")) // without a driver it is none
	name := filepath.Base(driver)
	return slices.Contains(drivers[p.Subsystem], name) || name == "cdc_acm" && speaksAT(filepath.Join(dir, "device"))
}

// speaksAT reports whether a USB interface says of itself that it takes AT commands (USB CDC 1.2, table 5).
func speaksAT(dir string) bool {
	protocol := text(dir, "bInterfaceProtocol")
	return text(dir, "bInterfaceClass") == "02\n" && text(dir, "bInterfaceSubClass") == "02\n" &&
		protocol >= "01\n" && protocol <= "06\n"
}

func text(dir, name string) string {
	b, _ := os.ReadFile(filepath.Join(dir, name)) // a file that is not there says nothing
	return string(b)
}
