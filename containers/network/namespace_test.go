package network

import (
	"runtime"

	"github.com/vishvananda/netns"
)

// inNetworkOf runs fn on a thread in the network namespace of a process. The thread ends with it.
func inNetworkOf(pid int, fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.GetFromPid(pid)
		if err == nil {
			defer ns.Close()
			err = netns.Set(ns)
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}
