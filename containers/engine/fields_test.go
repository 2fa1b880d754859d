package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"resinos/containers/appstatus"
)

const fielded = `x-limits: &limits
  pids_limit: 50
  mem_limit: 64m
services:
  web:
    <<: *limits
    image: busybox
    command:
      - /bin/sh
      - -c
      - |
        echo "name $$(cat /proc/sys/kernel/hostname)"
        echo "limits $$(ulimit -n) $$(cat /proc/self/oom_score_adj)"
        echo "capabilities $$(grep CapEff /proc/self/status)"
        echo "groups $$(grep Groups /proc/self/status)"
        echo "config $$(cat /etc/web.conf) secret $$(cat /run/secrets/password)"
        echo "image $$(ls /bin)"
        echo x > /root-is-writable || echo "root is read-only"
        echo x > /bound/x || echo "bound is read-only"
        echo x > /scratch/x && echo "scratch is writable"
        ls /tmp/balena /tmp/resin | grep -c lock; echo x > /tmp/balena/updates.lock && echo "locks the update"
        echo "kept $$(cat /data/count)"
        echo "$${WORD}$$(cat /data/count)" > /data/count
        echo done; exec sleep 1000
    environment: {WORD: "${WORD}"}
    hostname: shop
    group_add: ["4321"]
    read_only: true
    ulimits: {nofile: 321}
    oom_score_adj: 777
    cap_drop: [ALL]
    cap_add: [NET_ADMIN]
    tmpfs: ["/scratch:size=1m"]
    volumes:
      - data:/data
      - content:/bin
      - ./bound:/bound:ro
    configs: [{source: conf, target: /etc/web.conf}]
    secrets: [password]
    network_mode: none
volumes: {data: , content: }
configs: {conf: {content: "for ${WORD}"}}
secrets: {password: {file: ./password}}
`

// TestFields: a container has the names, rights, limits, volumes and files that its service asks for, and a volume
// lives through the removal of the app and a power cut.
func TestFields(t *testing.T) {
	d := newDevice(t)
	files := map[string]string{".env": "WORD=once\n", "password": "swordfish"}
	write := func() {
		t.Helper()
		if err := os.MkdirAll(d.path("apps", "shop", "bound"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			if err := os.WriteFile(d.path("apps", "shop", name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d.app("shop", fielded, "busybox")
	}
	write()
	out := d.output("shop.web", "stdout")
	d.engine()
	for _, want := range []string{
		"name shop", "limits 321 777", "capabilities CapEff:\t0000000000001000", "4321",
		"config for once secret swordfish", "image busybox", "root is read-only", "bound is read-only",
		"scratch is writable", "0", "locks the update", "kept ",
	} {
		if line := out.await(strings.Fields(want)[0]); !strings.Contains(line, want) {
			t.Errorf("%q lacks %q", line, want)
		}
	}
	out.await("done")
	d.started("shop.web")
	// There the updater looks for its update lock. The next start begins without one: it prints 0 again.
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/tmp/balena/updates.lock", d.pid("shop.web"))); err != nil {
		t.Error(err)
	}

	if err := os.RemoveAll(d.path("apps", "shop")); err != nil {
		t.Fatal(err)
	}
	d.eventually("the end of the app", func() bool { return d.pid("shop.web") == 0 })
	d.powerCut()
	files[".env"] = "WORD=twice\n"
	write()
	d.engine()
	out.await("0")
	if line := out.await("kept"); line != "kept once" {
		t.Errorf("after the app came back: %q", line)
	}
	out.await("done")
	d.started("shop.web")
	text, err := os.ReadFile(d.path("volumes", "shop", "data", "count"))
	if err != nil || string(text) != "twiceonce\n" {
		t.Errorf("the volume has %q, %v", text, err)
	}
}

// TestRefusedBinds: nothing of the device but what is offered gets into a container, and the status says why.
func TestRefusedBinds(t *testing.T) {
	d := newDevice(t)
	const one = "services:\n  web:\n    image: busybox\n    network_mode: none\n    volumes: [\"SOURCE:/x\"]\n"
	if err := os.MkdirAll(d.path("apps", "link"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", d.path("apps", "link", "etc")); err != nil {
		t.Fatal(err)
	}
	for app, source := range map[string]string{
		"root": "/", "socket": "/run/resinos", "docker": "/var/run/docker.sock", "proc": "/proc", "link": "./etc",
		"other": d.path("apps", "root"), "state": "/mnt/state", "data": "/mnt/data", "cgroups": "/sys/fs/cgroup",
	} {
		d.app(app, strings.Replace(one, "SOURCE", source, 1), "busybox")
	}
	d.engine()
	for app, why := range map[string]string{
		"root": "nothing that a container may see", "socket": "nothing that a container may see",
		"docker": "nothing that a container may see", "proc": "read-only", "link": "is a link",
		"other": "nothing that a container may see", "state": "nothing that a container may see",
		"data": "nothing that a container may see", "cgroups": "read-only",
	} {
		d.eventually("the status of "+app, func() bool { return strings.Contains(d.status(app), why) })
	}
}

// status is the printed status of an app.
func (d *device) status(app string) string {
	s, err := appstatus.Read(d.path("apps.json"))
	if err != nil {
		return err.Error()
	}
	for _, a := range s.Apps {
		if a.Name == app {
			return fmt.Sprintf("%+v", a)
		}
	}
	return ""
}
