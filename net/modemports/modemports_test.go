package modemports

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// tree is a sysfs with one device of each kind.
func tree(t *testing.T) string {
	t.Helper()
	sys := t.TempDir()
	file := func(name, text string) {
		t.Helper()
		path := filepath.Join(sys, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, target string) {
		t.Helper()
		path := filepath.Join(sys, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	port := func(device, subsystem, name, driver, uevent string) {
		t.Helper()
		dir := filepath.Join("devices/usb1", device, device+":1."+name)
		file(filepath.Join("devices/usb1", device, "idVendor"), "1234\n")
		file(filepath.Join(dir, subsystem, name, "uevent"), uevent)
		link(filepath.Join(dir, subsystem, name, "device"), filepath.Join(sys, dir))
		link(filepath.Join(dir, "driver"), "/sys/bus/drivers/"+driver)
		link(filepath.Join("class", subsystem, name), filepath.Join(sys, dir, subsystem, name))
	}
	port("1-1", "tty", "ttyUSB0", "option1", "")
	port("1-1", "tty", "ttyUSB1", "option1", "")
	port("1-1", "usbmisc", "cdc-wdm0", "qmi_wwan", "")
	port("1-1", "net", "wwan0", "qmi_wwan", "DEVTYPE=wwan\nINTERFACE=wwan0\n")
	port("1-2", "tty", "ttyUSB2", "ftdi_sio", "")
	port("1-3", "tty", "ttyACM0", "cdc_acm", "")
	file("devices/usb1/1-3/1-3:1.ttyACM0/bInterfaceClass", "02\n")
	file("devices/usb1/1-3/1-3:1.ttyACM0/bInterfaceSubClass", "02\n")
	file("devices/usb1/1-3/1-3:1.ttyACM0/bInterfaceProtocol", "00\n") // a microcontroller
	port("1-4", "tty", "ttyACM1", "cdc_acm", "")
	file("devices/usb1/1-4/1-4:1.ttyACM1/bInterfaceClass", "02\n")
	file("devices/usb1/1-4/1-4:1.ttyACM1/bInterfaceSubClass", "02\n")
	file("devices/usb1/1-4/1-4:1.ttyACM1/bInterfaceProtocol", "01\n")
	port("1-5", "net", "eth0", "r8152", "INTERFACE=eth0\n")
	file("devices/platform/serial8250/tty/ttyS0/uevent", "")
	link("devices/platform/serial8250/tty/ttyS0/device", filepath.Join(sys, "devices/platform/serial8250"))
	link("class/tty/ttyS0", filepath.Join(sys, "devices/platform/serial8250/tty/ttyS0"))
	link("class/tty/gone", filepath.Join(sys, "devices/gone"))
	return sys
}

func names(ports []Port) (out []string) {
	for _, p := range ports {
		out = append(out, p.Subsystem+"/"+p.Name)
	}
	return out
}

func TestFind(t *testing.T) {
	sys := tree(t)
	for _, test := range []struct {
		named []string
		want  string
	}{
		{nil, "[net/wwan0 tty/ttyUSB0 tty/ttyUSB1 usbmisc/cdc-wdm0 tty/ttyACM1]"},
		{[]string{"", "nowhere", "ttyS0"}, "[net/wwan0 tty/ttyUSB0 tty/ttyUSB1 usbmisc/cdc-wdm0 tty/ttyACM1]"},
		{[]string{"ttyUSB2"}, "[net/wwan0 tty/ttyUSB0 tty/ttyUSB1 usbmisc/cdc-wdm0 tty/ttyUSB2 tty/ttyACM1]"},
	} {
		if got := fmt.Sprint(names(Find(sys, test.named))); got != test.want {
			t.Errorf("Find(%q) = %s, want %s", test.named, got, test.want)
		}
	}
	if got := Find(filepath.Join(sys, "nowhere"), nil); got != nil {
		t.Errorf("Find without sysfs = %v", got)
	}
}
