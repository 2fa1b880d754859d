package boottest

import (
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// internet is an address that the lab serves status 204 on, and at /way which way it has been reached. The device gets
// there through the lab's gateway, and through QEMU's user network, which connects from the lab itself.
const internet = "203.0.113.1"

// secondLink returns the QEMU arguments for a further link, on QEMU's user network.
func secondLink(model string) []string {
	return []string{"-netdev", "user,id=net1", "-device", model + ",netdev=net1,romfile=,mac=52:54:00:00:01:01"}
}

// uplink serve: the internet begins to be there. uplink break, uplink mend: its answers do not reach the device through
// the lab's gateway any more, and then they do again. The link on the user network is not touched.
func cmdUplink(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 1 && !neg, "uplink serve|break|mend")
	s := sceneOf(ts)
	hole := netlink.NewRule()
	hole.Type, hole.Priority = unix.FR_ACT_BLACKHOLE, 10
	hole.Src = netlink.NewIPNet(net.ParseIP(internet))
	hole.Dst = netlink.NewIPNet(net.ParseIP(Address(s.device.number).String()))
	switch args[0] {
	case "serve":
		stop, err := s.device.lab.serveInternet()
		ts.Check(err)
		ts.Defer(stop)
	case "break":
		ts.Check(netlink.RuleAdd(hole))
		ts.Defer(func() { _ = netlink.RuleDel(hole) }) // it may be gone already
	case "mend":
		ts.Check(netlink.RuleDel(hole))
	default:
		ts.Fatalf("uplink: unknown argument %s", args[0])
	}
}

// serveInternet answers HTTP requests to the address internet until stop.
func (l *Lab) serveInternet() (stop func(), err error) {
	address, err := netlink.ParseAddr(internet + "/32")
	if err != nil {
		return nil, fmt.Errorf("serve internet: %w", err)
	}
	if err := netlink.AddrReplace(l.bridge, address); err != nil {
		return nil, fmt.Errorf("serve internet: %w", err)
	}
	listener, err := net.Listen("tcp", internet+":80")
	if err != nil {
		return nil, fmt.Errorf("serve internet: %w", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/way" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = io.WriteString(w, "reached by cable\n") // who has gone needs no answer
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with stop
	}()
	return func() {
		_ = server.Close() // nothing is left to be sent
		<-done
	}, nil
}
