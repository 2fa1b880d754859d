package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/containers/appcontrol"
)

const mapped = `x-own: &own
  image: busybox
  userns_mode: auto
  restart: always
services:
  web:
    <<: *own
    command:
      - /bin/sh
      - -c
      - |
        echo "map $$(cat /proc/self/uid_map)"
        echo "image $$(stat -c %u:%g /bin/busybox)"
        echo x > /written && echo "root $$(stat -c %u:%g /written)"
        echo "kept $$(cat /data/count 2>/dev/null | grep -c x) $$(stat -c %u /data)"
        echo x >> /data/count && chown 1000:1001 /data/count
        echo "bound $$(cat /bound/x) $$(stat -c %u:%g /bound/x)"
        echo "secret $$(cat /run/secrets/password) $$(stat -c %u /run/secrets/password)"
        echo "device" > /dev/null && echo "null works"
        echo "said" > /dev/stdout
        while :; do echo -e 'HTTP/1.0 200 OK\n\nserved' | nc -l -p 80; done
    ports: ["8080:80"]
    init: true
    healthcheck: {test: "test -f /written", interval: 200ms, start_period: 1s}
    ulimits: {nofile: 321}
    sysctls: {net.ipv4.ip_unprivileged_port_start: 0}
    volumes: ["data:/data", "./bound:/bound", "content:/bin"]
    secrets: [password]
    tmpfs: ["/scratch:size=1m"]
  reader:
    <<: *own
    user: "1000:1000"
    read_only: true
    command:
      - /bin/sh
      - -c
      - |
        echo "user $$(id -u)"
        while ! test -s /data/count; do sleep 1; done
        echo "shared $$(stat -c %u:%g /data/count)"
        echo x > /x || echo "root is read-only"
        while ! nc web 80 < /dev/null | grep served; do sleep 1; done
        echo "said" > /dev/stdout; while :; do sleep 1; done
    volumes: ["data:/data"]
  beside:
    image: busybox
    restart: always
    network_mode: service:web
    command:
      - /bin/sh
      - -c
      - while ! nc 127.0.0.1 80 < /dev/null | grep served; do sleep 1; done; exec sleep 1000
  usual:
    image: busybox
    restart: always
    command:
      - /bin/sh
      - -c
      - |
        while ! test -s /data/count; do sleep 1; done
        echo "usual $$(stat -c %u:%g /data/count)"; exec sleep 1000
    volumes: ["data:/data"]
volumes: {data: , content: }
secrets: {password: {file: ./password}}
`

// TestOwnUsers: with userns_mode: auto the root of a container is nobody on the device, in a block of users that no
// other container has; images, volumes and files of the app show the owners that they have; what people do inside
// works; and the block stays over a power cut.
func TestOwnUsers(t *testing.T) {
	d := newDevice(t)
	loopbackUp(t)
	if err := os.MkdirAll(d.path("apps", "shop", "bound"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"password": 0o600, "bound/x": 0o640} {
		if err := os.WriteFile(d.path("apps", "shop", name), []byte("swordfish\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(d.path("apps", "shop", "bound", "x"), 0, 33); err != nil {
		t.Fatal(err)
	}
	d.app("shop", mapped, "busybox")
	web, reader := d.output("shop.web", "stdout"), d.output("shop.reader", "stdout")
	usual, beside := d.output("shop.usual", "stdout"), d.output("shop.beside", "stdout")
	engine := d.engine()
	check := func(kept string) {
		t.Helper()
		for _, want := range []string{"image 0:0", "root 0:0", "kept " + kept + " 0", "bound swordfish 0:33",
			"secret swordfish 0", "null works", "said"} {
			if line := web.await(strings.Fields(want)[0]); strings.Join(strings.Fields(line), " ") != want {
				t.Errorf("%q, want %q", line, want)
			}
		}
		for _, want := range []string{"user 1000", "shared 1000:1001", "root is read-only", "served", "said"} {
			if line := reader.await(strings.Fields(want)[0]); line != want {
				t.Errorf("%q, want %q", line, want)
			}
		}
		usual.await("usual 1000:1001")
		beside.await("served")
		d.started("shop.web")
		d.started("shop.reader")
	}
	check("0")
	first, other := d.firstUser("shop.web"), d.firstUser("shop.reader")
	if first < 1<<20 || other < 1<<20 || first == other {
		t.Errorf("the blocks of web and reader begin at %d and %d", first, other)
	}

	t.Run("on the device", func(t *testing.T) {
		var st unix.Stat_t
		pid := d.pid("shop.web")
		if err := unix.Stat(fmt.Sprintf("/proc/%d", pid), &st); err != nil || int(st.Uid) != first {
			t.Errorf("process %d belongs to %d, want %d: %v", pid, st.Uid, first, err)
		}
		count := d.path("volumes", "shop", "data", "count")
		if err := unix.Stat(count, &st); err != nil || st.Uid != 1000 || st.Gid != 1001 {
			t.Errorf("the volume's file belongs to %d:%d, %v", st.Uid, st.Gid, err)
		}
		if err := unix.Stat(d.path("volumes", "shop", "content", "busybox"), &st); err != nil || st.Uid != 0 {
			t.Errorf("the image's content in a volume belongs to %d, %v", st.Uid, err)
		}
	})
	t.Run("healthy", func(t *testing.T) { d.health("shop.web", "healthy") })
	t.Run("published", func(t *testing.T) {
		d.eventually("the port is served", func() bool { return strings.Contains(ask("127.0.0.1:8080"), "served") })
	})
	t.Run("exec", func(t *testing.T) {
		var out bytes.Buffer
		cmd := d.inside("shop.web", "/bin/sh", "-c", "id -u; cat /proc/self/uid_map; echo y > /from-exec; ulimit -n")
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil || strings.Join(strings.Fields(out.String()), " ") !=
			"0 0 "+strconv.Itoa(first)+" 65536 321" {
			t.Errorf("%v: %s", err, &out)
		}
	})
	t.Run("run", func(t *testing.T) {
		cmd, id := d.start(t, "shop.web", "/bin/sh", "-c", "cat /proc/self/uid_map; cat /data/count")
		out, err := cmd.Output()
		block := strings.Fields(string(out))
		if err != nil || len(block) != 4 || block[1] == strconv.Itoa(first) || block[1] == strconv.Itoa(other) {
			t.Errorf("%v: %s", err, out)
		}
		d.do(t, appcontrol.OpStop, id)
	})
	t.Run("killed", func(t *testing.T) {
		d.end(engine, syscall.SIGKILL)
		// A shim that is killed at its work leaves such a mount.
		left := d.path("run", "mounts", "ovl-idmapped1")
		err := errors.Join(os.Mkdir(left, 0o700), unix.Mount(d.path("apps"), left, "", unix.MS_BIND, ""))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(d.pidOf(first), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		engine = d.engine()
		web.await("said")
		if now := d.firstUser("shop.web"); now != first {
			t.Errorf("the block began at %d and now at %d", first, now)
		}
		d.eventually("the mount goes", func() bool { return !exists(left) })
		if !exists(d.path("apps", "shop", "compose.yaml")) {
			t.Error("what was mounted is gone too")
		}
	})
	t.Run("power cut", func(t *testing.T) {
		d.powerCut()
		for _, o := range []*output{web, reader, usual, beside} {
			o.drain()
		}
		engine = d.engine()
		check("2")
		if now := d.firstUser("shop.web"); now != first {
			t.Errorf("the block began at %d and now at %d", first, now)
		}
	})
	t.Run("nothing is left", func(t *testing.T) {
		if err := os.RemoveAll(d.path("apps", "shop")); err != nil {
			t.Fatal(err)
		}
		d.eventually("nothing is left", func() bool { return d.left() == "" })
		if left, err := filepath.Glob(d.path("run", "mounts", "*")); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}

// firstUser is the first user of the device in a container's user namespace.
func (d *device) firstUser(id string) int {
	d.t.Helper()
	var first int
	d.eventually(id+" has its users", func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", d.pid(id)))
		if err != nil {
			return false
		}
		block := strings.Fields(string(text))
		if len(block) != 3 || block[0] != "0" || block[2] != "65536" {
			return false
		}
		first, err = strconv.Atoi(block[1])
		return err == nil
	})
	return first
}

// pidOf is a process of a user.
func (d *device) pidOf(user int) int {
	for _, pid := range pids() {
		var st unix.Stat_t
		if unix.Stat(fmt.Sprintf("/proc/%d", pid), &st) == nil && int(st.Uid) == user && alive(pid) {
			return pid
		}
	}
	d.t.Fatalf("user %d has no process", user)
	return 0
}
