package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"resinos/services/notify"
)

// The names under which PID 1 keeps the sockets, so that questions wait while netd is started again.
const (
	keptPackets = "names-udp"
	keptStreams = "names-tcp"
)

// Listen returns the sockets on an address: those that PID 1 has kept for us, else new ones, which PID 1 then keeps if
// there is one.
func Listen(at netip.AddrPort, kept []notify.Inherited) (net.PacketConn, net.Listener, error) {
	packets, streams := adopt(kept)
	if packets != nil && streams != nil {
		return packets, streams, nil
	}
	for _, half := range []interface{ Close() error }{packets, streams} {
		if half != nil {
			half.Close() // one is of no use without the other
		}
	}
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, nil, fmt.Errorf("serve names: %w", err)
	}
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("serve names: %w", err), udp.Close())
	}
	// Without a PID 1 that keeps them, questions are lost while we are started again.
	_ = keep(keptPackets, udp)
	_ = keep(keptStreams, tcp)
	return udp, tcp, nil
}

func keep(name string, socket syscall.Conn) error {
	if os.Getenv(notify.Variable) == "" {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	if control := raw.Control(func(fd uintptr) { err = notify.Keep(name, int(fd)) }); control != nil {
		return control
	}
	return err
}

// adopt returns the sockets among the descriptors of PID 1; nil are those that are not there.
func adopt(kept []notify.Inherited) (packets net.PacketConn, streams net.Listener) {
	for _, k := range kept {
		if k.Name != keptPackets && k.Name != keptStreams {
			continue
		}
		file := os.NewFile(uintptr(k.FD), k.Name)
		if k.Name == keptPackets {
			packets, _ = net.FilePacketConn(file) // one that cannot be used is not there
		} else {
			streams, _ = net.FileListener(file)
		}
		file.Close() // both have made a copy
	}
	return packets, streams
}
