package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"resinos/containers/appcontrol"
)

const sharing = `x-base: &base
  image: busybox
  restart: always
services:
  owner:
    <<: *base
    hostname: proud
    ipc: shareable
    shm_size: 1m
    extra_hosts: ["somewhere:192.0.2.7"]
    command: ["/bin/sh", "-c", "echo mine > /dev/shm/x; echo up $$VERSION; while :; do sleep 0.1; done"]
    environment: {VERSION: "1"}
  guest:
    <<: *base
    network_mode: service:owner
    pid: container:shop.owner
    ipc: service:owner
    init: true
    command:
      - /bin/sh
      - -c
      - |
        while [ ! -e /dev/shm/x ]; do sleep 0.1; done
        echo "sees $$(cat /dev/shm/x) $$(cat /proc/1/comm) $$(hostname) $$(grep -c somewhere /etc/hosts)"
        exec sleep 1000
  second:
    <<: *base
    network_mode: service:guest
    command: ["/bin/sh", "-c", "echo \"$$(ls /sys/class/net | tr '\n' ' ')\"; exec sleep 1000"]
`

// namespace is that of the program of a container.
func (d *device) namespace(id, kind string) string {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", d.pid(id), kind))
	if err != nil {
		return err.Error()
	}
	return link
}

// shared reports whether the containers of the app sharing are together as they should be.
func (d *device) shared() bool {
	same := func(kind, a, b string) bool { return d.namespace("shop."+a, kind) == d.namespace("shop."+b, kind) }
	return d.pid("shop.owner") != 0 && same("net", "owner", "guest") && same("net", "owner", "second") &&
		same("pid", "owner", "guest") && same("ipc", "owner", "guest") && !same("mnt", "owner", "guest") &&
		!same("pid", "owner", "second") && !same("ipc", "owner", "second")
}

// TestSharedNamespaces: containers use the network, the processes and the memory of another one, and are with it again
// whenever it is started or replaced.
func TestSharedNamespaces(t *testing.T) {
	d := newDevice(t)
	d.app("shop", sharing, "busybox")
	guest, second := d.output("shop.guest", "stdout"), d.output("shop.second", "stdout")
	d.engine()
	if line := guest.await("sees"); line != "sees mine sh proud 1" {
		t.Errorf("%q", line)
	}
	second.await("eth0 lo")
	d.eventually("all share", d.shared)

	t.Run("the other one ends", func(t *testing.T) {
		old := d.pid("shop.owner")
		d.started("shop.second")
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		d.eventually("all share again", func() bool { return d.pid("shop.owner") != old && d.shared() })
	})
	t.Run("the other one is replaced", func(t *testing.T) {
		old := d.labels("shop.owner")["resinos/wish"]
		d.app("shop", strings.Replace(sharing, `"1"}`, `"2"}`, 1), "")
		d.eventually("all share again", func() bool {
			return d.labels("shop.owner")["resinos/wish"] != old && d.shared()
		})
	})
	t.Run("a person stops the other one", func(t *testing.T) {
		d.do(t, appcontrol.OpStop, "shop.owner")
		d.do(t, appcontrol.OpStart, "shop.owner")
		d.eventually("all share again", d.shared)
	})
	d.do(t, appcontrol.OpDown, "shop")
	d.eventually("nothing is left", func() bool {
		return d.left() == "" && len(glob(t, d.path("container", "shm", "*"))) == 0
	})
}
