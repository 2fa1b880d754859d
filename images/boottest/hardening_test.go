package boottest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	"golang.org/x/sys/unix"

	"resinos/images/hardening"
)

// hardened VARIANT open|closed [KEY [PROGRAM]]: the device is as images/hardening says, with the development mode on or
// off. KEY is the file of a private key that may log in; without one, nobody needs any. PROGRAM has been brought by the
// story. The observer is copied to the device, because a production image has no shell, and looks at it from the
// inside.
func cmdHardened(ts *testscript.TestScript, neg bool, args []string) {
	right := len(args) >= 2 && len(args) <= 4 && (args[1] == "open" || args[1] == "closed")
	usage(ts, !neg && right, "hardened VARIANT open|closed [KEY [PROGRAM]]")
	s := sceneOf(ts)
	table, err := hardening.Load()
	ts.Check(err)
	options := []string{"-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes"}
	if len(args) > 2 {
		options = append(options, "-o", "IdentityFile="+ts.MkAbs(args[2]))
	}
	observer := ts.MkAbs("observer")
	build := exec.CommandContext(s.ctx, "go", "build", "-ldflags", "-s -w", "-o", observer,
		"./images/hardening/observer")
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
		if len(args) == 4 {
			facts.Forget(args[3])
		}
		return table.Judge(device, facts)
	})
	fmt.Fprintf(ts.Stdout(), "%s", last)
	if len(faults) > 0 {
		ts.Fatalf("%s, %s:\n%s", args[0], args[1], strings.Join(faults, "\n"))
	}
}

// scanned VARIANT open|closed: another device finds the ports of TCP open that images/hardening says, and no others.
// ssh is among them.
func cmdScanned(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2 && (args[1] == "open" || args[1] == "closed"), "scanned VARIANT open|closed")
	s := sceneOf(ts)
	table, err := hardening.Load()
	ts.Check(err)
	device := hardening.Device{Variant: args[0], Open: args[1] == "open", SSH: true}
	began := time.Now()
	open, silent, err := scan(s.ctx, Address(s.device.number), device.Open)
	ts.Check(err)
	took := time.Since(began).Round(time.Second)
	fmt.Fprintf(ts.Stdout(), "open ports of TCP: %v; %d did not answer; %v\n", open, silent, took)
	want := table.Reachable(device)
	for _, port := range open {
		if !slices.Contains(want, port) {
			ts.Fatalf("port %d is open for other devices", port)
		}
	}
	switch {
	case !slices.Contains(open, 22222):
		ts.Fatalf("the scan is blind: it does not find port 22222")
	case device.Open && silent > 0:
		ts.Fatalf("the scan is blind: %d ports neither accept nor refuse", silent)
	}
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

// Of the scan: so many ports are tried at a time, so often; the network card of a guest has no place for more. One has
// so long to answer. The kernel sends its first packet again after a second; the filter of a closed device answers no
// packet.
const (
	scanBurst  = 32
	scanPause  = 10 * time.Millisecond
	scanAnswer = 1500 * time.Millisecond
)

// scan returns the ports of TCP that accept a connection from here, sorted, and how many do not answer. A slow device
// is asked again: until all ports answer, or where a filter keeps most of them silent, until ssh does.
func scan(ctx context.Context, address netip.Addr, answersAll bool) (open []uint16, silent int, err error) {
	var ports []uint16
	for port := range 1<<16 - 1 {
		ports = append(ports, uint16(port+1))
	}
	for range 4 {
		var more []uint16
		if more, ports, err = try(ctx, address, ports); err != nil {
			return nil, 0, err
		}
		open = append(open, more...)
		if len(ports) == 0 || !answersAll && slices.Contains(open, 22222) {
			break
		}
	}
	slices.Sort(open)
	return open, len(ports), nil
}

// try returns which of the ports accept a connection, and which do not answer.
func try(ctx context.Context, address netip.Addr, ports []uint16) (open, silent []uint16, err error) {
	var mu sync.Mutex // guards open, silent and err
	var all sync.WaitGroup
	defer all.Wait()
	dialer := net.Dialer{Timeout: scanAnswer}
	one := func(port uint16) {
		conn, dialed := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(address, port).String())
		mu.Lock()
		defer mu.Unlock()
		var late net.Error
		switch {
		case dialed == nil:
			conn.Close() // nothing was said
			open = append(open, port)
		case errors.Is(dialed, unix.ECONNREFUSED):
		case errors.As(dialed, &late) && late.Timeout():
			silent = append(silent, port)
		default:
			err = dialed // of this side: the port has not been tried
		}
	}
	pace := time.NewTicker(scanPause)
	defer pace.Stop()
	for burst := range slices.Chunk(ports, scanBurst) {
		for _, port := range burst {
			all.Go(func() { one(port) })
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	all.Wait()
	return open, silent, err
}
