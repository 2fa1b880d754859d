package boottest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"resinos/images/hardening"
)

// hardened VARIANT open|closed [KEY]: the device is as images/hardening says, with the development mode on or off. KEY
// is the file of a private key that may log in; without one, nobody needs any. The observer is copied to the device,
// because a production image has no shell, and looks at it from the inside. From the outside, all TCP ports are tried.
func cmdHardened(ts *testscript.TestScript, neg bool, args []string) {
	right := (len(args) == 2 || len(args) == 3) && (args[1] == "open" || args[1] == "closed")
	usage(ts, !neg && right, "hardened VARIANT open|closed [KEY]")
	s := sceneOf(ts)
	table, err := hardening.Load()
	ts.Check(err)
	options := []string{"-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes"}
	if len(args) == 3 {
		options = append(options, "-o", "IdentityFile="+ts.MkAbs(args[2]))
	}
	observer := ts.MkAbs("observer")
	build := exec.CommandContext(s.ctx, "go", "build", "-ldflags", "-s -w", "-o", observer, "./images/hardening/observer")
	build.Dir = top
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+architecture(s.board))
	run(ts, build)
	address := Address(s.device.number)
	copying := append(slices.Clone(options), "-P", "22222", observer, "root@"+address.String()+":/run/observer")
	run(ts, exec.CommandContext(s.ctx, "scp", copying...))
	device := hardening.Device{Variant: args[0], Open: args[1] == "open", SSH: true}
	looking := append(slices.Clone(options), "-p", "22222", "root@"+address.String(), "/run/observer")
	var last []byte
	faults := s.settled(ts, func() []string {
		look := exec.CommandContext(s.ctx, "ssh", looking...)
		var complaints bytes.Buffer
		look.Stderr = &complaints
		text, err := look.Output()
		if err != nil {
			return []string{fmt.Sprintf("observer: %v: %s", err, complaints.String())}
		}
		var facts hardening.Facts
		ts.Check(json.Unmarshal(text, &facts))
		last = text
		return table.Judge(device, facts)
	})
	fmt.Fprintf(ts.Stdout(), "%s", last)
	want := table.Reachable(device)
	began := time.Now()
	found, err := scan(s.ctx, address)
	ts.Check(err)
	for _, port := range found {
		if !slices.Contains(want, port) {
			faults = append(faults, fmt.Sprintf("port %d of TCP is open for other devices", port))
		}
	}
	if !slices.Contains(found, 22222) { // the observer came by it
		faults = append(faults, "the scan of TCP is blind: it does not find port 22222")
	}
	if len(faults) > 0 {
		ts.Fatalf("%s, %s:\n%s", args[0], args[1], strings.Join(faults, "\n"))
	}
	fmt.Fprintf(ts.Stdout(), "open ports of TCP, found in %v: %v\n", time.Since(began).Round(time.Second), found)
}

// settled looks until there are no faults any more, or for half a minute: a change of the mode takes a moment.
func (s *scene) settled(ts *testscript.TestScript, look func() []string) []string {
	ctx, cancel := context.WithTimeout(s.ctx, patient(30*time.Second))
	defer cancel()
	for {
		faults := look()
		if len(faults) == 0 {
			return nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return faults
		}
	}
}

// Of the scan: how many ports are tried at once, and how long one has to answer. The kernel sends its first packet
// again after a second; the filter of a device that is closed answers none.
const (
	scanners   = 4096
	scanAnswer = 1500 * time.Millisecond
)

// scan returns the ports of TCP that accept a connection from here, sorted.
func scan(ctx context.Context, address netip.Addr) (open []uint16, err error) {
	ports := make(chan uint16)
	var mu sync.Mutex // guards open and err
	var all sync.WaitGroup
	dialer := net.Dialer{Timeout: scanAnswer}
	for range scanners {
		all.Go(func() {
			for port := range ports {
				conn, dialed := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(address, port).String())
				mu.Lock()
				switch {
				case dialed == nil:
					conn.Close() // nothing was said
					open = append(open, port)
				case strings.Contains(dialed.Error(), "too many open files"), strings.Contains(dialed.Error(), "cannot assign"):
					err = dialed // a fault of this side: the port has not been tried
				}
				mu.Unlock()
			}
		})
	}
	for port := 1; port < 1<<16; port++ {
		ports <- uint16(port)
	}
	close(ports)
	all.Wait()
	slices.Sort(open)
	return open, err
}
