package main

import (
	"slices"
	"strings"
	"testing"

	"resinos/containers/appcontrol"
	"resinos/containers/appstatus"
)

const ordered = `x-base: &base
  image: busybox
  network_mode: none
  pids_limit: -1
  restart: unless-stopped
  command: ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]
services:
  web:
    <<: *base
    depends_on:
      db: {condition: service_healthy, restart: true}
      job: {condition: service_completed_successfully}
      broken: {condition: service_healthy, required: false}
  db:
    <<: *base
    healthcheck: {test: cat /ok, interval: 100ms, retries: 1}
  job:
    <<: *base
    restart: "no"
    command: ["/bin/sh", "-c", "echo x >> /n; test $$(/bin/busybox wc -l < /n) = 1"]
  broken:
    <<: *base
    restart: "no"
    command: ["/bin/sh", "-c", "exit 3"]
    healthcheck: {test: "true"}
  free:
    <<: *base
`

// happened are the events of one kind, in their order.
func (d *device) happened(what string) (out []string) {
	list, err := d.ask().Events(patient(d.t), appcontrol.Watch{Now: true})
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range list {
		if e.What == what {
			out = append(out, strings.TrimPrefix(e.Container, "shop."))
		}
	}
	return out
}

// TestDependsOn: containers start when what they depend on is as it has to be, and stop before it; a container that
// waits says for what, and nobody waits with it.
func TestDependsOn(t *testing.T) {
	needCgroup2(t)
	d := newDevice(t)
	d.app("shop", ordered, "busybox")
	d.engine()
	const why = "waits for shop.db to be healthy: it is unhealthy"
	d.eventually("web says what it waits for", func() bool { return d.container("shop.web").Waits == why })
	d.started("shop.free")
	if c := d.container("shop.web"); c.State != appstatus.Starting || c.Cause != appstatus.Dependency ||
		c.Reason != why {
		t.Errorf("%+v", c)
	}
	err := d.ask().Change(patient(t), appcontrol.OpStart, appcontrol.Parse("shop.web"))
	if err == nil || !strings.Contains(err.Error(), "shop.web "+why) {
		t.Errorf("a start that waits: %v", err)
	}
	if err := d.inside("shop.db", "/bin/sh", "-c", "echo > /ok").Run(); err != nil {
		t.Fatal(err)
	}
	d.started("shop.web")
	order := d.happened("start")
	if web := slices.Index(order, "web"); web < slices.Index(order, "db") || web < slices.Index(order, "job") {
		t.Errorf("started %v", order)
	}

	t.Run("restart", func(t *testing.T) {
		web, free := d.pid("shop.web"), d.pid("shop.free")
		d.do(t, appcontrol.OpRestart, "shop.db")
		d.eventually("web is restarted too", func() bool { return d.pid("shop.web") != web && d.pid("shop.web") != 0 })
		if d.pid("shop.free") != free {
			t.Error("another one too")
		}
		d.eventually("web runs", func() bool { return d.container("shop.web").State == appstatus.Up })
	})
	t.Run("stop", func(t *testing.T) {
		before := len(d.happened("end"))
		d.do(t, appcontrol.OpStop, "shop")
		order := d.happened("end")[before:]
		if web := slices.Index(order, "web"); web < 0 || web > slices.Index(order, "db") {
			t.Errorf("stopped %v", order)
		}
	})
	t.Run("power cut", func(t *testing.T) {
		const why = "waits for shop.job to end with 0: it ended with 1" // the second time
		err := d.ask().Change(patient(t), appcontrol.OpUp, appcontrol.Parse("shop"))
		if err == nil || !strings.Contains(err.Error(), "shop.web "+why) {
			t.Errorf("up: %v", err)
		}
		d.powerCut()
		d.engine()
		d.eventually("the job is done again, and fails again", func() bool {
			return d.container("shop.web").Waits == why
		})
		d.started("shop.free")
	})
}
