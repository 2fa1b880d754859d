package boottest

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"resinos/images/modemtest"
)

// modemSlot is where a modem is plugged into the device: a serial line on USB that is there while somebody has its
// socket open. A second line leads to the network of the modem, which is a pppd within the guest.
type modemSlot struct {
	line, network string // the sockets
	modem         modemtest.Modem
	pull          func() // nil: it is not plugged in
}

// modemSlot returns the QEMU arguments for a slot. In the guest, ttyUSB0 is the line to the network.
func (s *scene) modemSlot(ts *testscript.TestScript) []string {
	dir, err := os.MkdirTemp("", "modem") // paths of sockets are short
	ts.Check(err)
	m := &modemSlot{line: filepath.Join(dir, "line"), network: filepath.Join(dir, "network")}
	s.modem = m
	ts.Defer(func() {
		m.out()
		_ = os.RemoveAll(dir)
	})
	return []string{"-device", "qemu-xhci,id=xhci",
		"-chardev", "socket,id=network,path=" + m.network + ",server=on,wait=off",
		"-chardev", "socket,id=line,path=" + m.line + ",server=on,wait=off",
		"-device", "usb-serial,chardev=network,bus=xhci.0,port=1,always-plugged=on",
		"-device", "usb-serial,chardev=line,bus=xhci.0,port=2"}
}

// out pulls the modem out, if it is in.
func (m *modemSlot) out() {
	if m.pull != nil {
		m.pull()
		m.pull = nil
	}
}

// modem plug PIN: the modem is plugged in, with a SIM that has this PIN. modem pull: it is pulled out. modem pins N: N
// PINs have been given so far.
func cmdModem(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) > 0 && sceneOf(ts).modem != nil, "modem plug PIN|pull|pins COUNT, after boot -modem")
	m := sceneOf(ts).modem
	switch {
	case args[0] == "plug" && len(args) == 2:
		m.modem.PIN = args[1]
		m.plug(ts)
	case args[0] == "pull":
		m.out()
	case args[0] == "pins" && len(args) == 2:
		want, err := strconv.Atoi(args[1])
		ts.Check(err)
		if got := m.modem.PINs(); got != want {
			ts.Fatalf("modem: %d PINs have been given, want %d", got, want)
		}
	default:
		ts.Fatalf("modem: unknown argument %s", args[0])
	}
}

func (m *modemSlot) plug(ts *testscript.TestScript) {
	m.out()
	m.modem.Off()
	network, err := net.Dial("unix", m.network)
	ts.Check(err)
	line, err := net.Dial("unix", m.line)
	ts.Check(err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.modem.Serve(ctx, line, network) // ends with the lines
	}()
	m.pull = func() {
		stop()
		<-done
	}
}
