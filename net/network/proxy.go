package main

import (
	"resinos/net/netcontrol"
	"resinos/net/netd"
	"resinos/net/proxy"
)

// showProxy adds what the service proxy says to the status.
func showProxy(cfg *netd.Config) {
	addStatus(cfg, func(s *netcontrol.Status) {
		now, _ := proxy.Read(proxy.State) // it does not run: nothing is added
		s.Proxy, s.Faults = now.Server, append(s.Faults, now.Faults()...)
	})
}
