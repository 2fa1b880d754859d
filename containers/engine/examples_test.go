package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"resinos/containers/appstatus"
)

// program is an image that stands for a well-known one: what its first process checks, then does.
type program struct {
	image, check string
	port, text   string // it answers there with text; empty: it ends
	files        []entry
}

// programs are the images of the examples. Each checks what the real one needs before it works.
var programs = []program{
	{image: "example/web:1", port: "8000", text: "web"},
	{image: "example/client:1", check: `until nc "$1" "$2" < /dev/null; do sleep 1; done; echo "reached $1"
[ "$3" != hold ] || exec sleep 1000`},
	{image: "example/tunnel:1", check: `test -c /dev/net/tun && ip addr add 10.200.0.1/32 dev lo && : > /run/up
exec sleep 1000`, files: []entry{{name: "run/", mode: 0o755}}},
	{image: "postgres:16", check: `test -n "$POSTGRES_USER" && test -s "$POSTGRES_PASSWORD_FILE" || exit 1
: > /var/lib/postgresql/data/ready`, port: "5432", text: "rows", files: []entry{
		{name: "bin/pg_isready", mode: 0o755,
			data: []byte("#!/bin/sh\n[ \"$2\" = guest ] && nc localhost 5432 < /dev/null\n")},
		{name: "var/lib/postgresql/data/", mode: 0o700},
	}},
	{image: "redis:7", check: `[ "$1" = redis-server ] && [ "$3" = 60 ]`, port: "6379", text: "PONG"},
	{image: "eclipse-mosquitto:2", check: `grep -q 'listener 1883' /mosquitto/config/mosquitto.conf &&
: > /mosquitto/data/db && : > /mosquitto/log/log && [ "$(hostname)" = broker ]`,
		port: "1883 9001", text: "CONNACK", files: []entry{
			{name: "mosquitto/data/", mode: 0o755, uid: 1883}, {name: "mosquitto/log/", mode: 0o755, uid: 1883},
		}},
	{image: "nginx:alpine",
		check: `upstream=$(grep -o 'http://[^;]*' /etc/nginx/conf.d/default.conf | cut -c8- | tr : ' ')
until text=$(nc $upstream < /dev/null); do sleep 1; done`, port: "80 8113 8114", text: `"$text by proxy"`},
	{image: "prom/prometheus:v3", check: "test -s /etc/prometheus/prometheus.yml && : > /prometheus/db && " +
		"grep -q host.docker.internal /etc/hosts && [ $2 = --storage.tsdb.retention.time=30d ]", port: "9090",
		text:  "up",
		files: []entry{{name: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0::/:/bin/sh\n")}}},
	{image: "prom/node-exporter:v1", check: "test -d /host/sys/class && [ $(cut -d' ' -f1 < /host/proc/self/stat) = " +
		"$(cut -d' ' -f1 < /proc/self/stat) ] || [ -e /host/proc/1/stat ]", port: "9100", text: "node_load1"},
	{image: "grafana/grafana:11", check: `: > /var/lib/grafana/db && [ "$(id -u)" = 472 ]`, port: "3000",
		text: `"$GF_SECURITY_ADMIN_PASSWORD"`, files: []entry{{name: "var/lib/grafana/", mode: 0o755, uid: 472}}},
	{image: "koenkk/zigbee2mqtt:2", check: "test -c /dev/ttyACM0 && grep -q ttyACM0 /app/data/configuration.yaml && " +
		"id -G | grep -qw 20 && test -d /run/udev", port: "8080", text: `"zigbee in $TZ"`,
		files: []entry{{name: "etc/group", mode: 0o644, data: []byte("root:x:0:\ndialout:x:20:\n")}}},
	{image: "homeassistant/home-assistant:stable", check: ": > /config/db && test -d /run/dbus", port: "8123",
		text: "home"},
	{image: "wordpress", check: `until nc $(echo $WORDPRESS_DB_HOST | tr : ' ') < /dev/null; do sleep 1; done
: > /var/www/html/index.php`, port: "80", text: `"blog of $WORDPRESS_DB_USER"`},
	{image: "mariadb:11", check: `test -n "$MARIADB_ROOT_PASSWORD" && [ "$2" = --log-bin=binlog ] &&
: > /var/lib/mysql/db`, port: "3306", text: "mariadb", files: []entry{
		{name: "bin/healthcheck.sh", mode: 0o755,
			data: []byte("#!/bin/sh\n[ \"$1\" = --connect ] && nc localhost 3306 < /dev/null\n")},
	}},
	{image: "pihole/pihole:latest", check: `[ "$(hostname)" = pihole ] && : > /etc/pihole/gravity.db`, port: "53 80",
		text: `"$FTLCONF_dns_upstreams"`},
	{image: "nodered/node-red:latest", check: `until nc influxdb 8086 < /dev/null; do sleep 1; done
[ "$(cut -d' ' -f2 /proc/1/stat)" != '(sh)' ]`, port: "1880", text: `"$TZ $NODE_OPTIONS"`},
	{image: "influxdb:2", check: ": > /var/lib/influxdb2/db", port: "8086", text: "points"},
	{image: "nextcloud:stable", check: `echo ok > /var/www/html/index.html && : > /files/x &&
[ "$(stat -c %a /tmp)" = 1777 ]`, port: "80", text: "cloud"},
}

// write writes the image into a directory of preloaded images.
func (p program) write(t *testing.T, busybox, dir string) {
	t.Helper()
	script := "#!/bin/sh\nexport PATH=/bin\n" + p.check + "\n"
	if p.port != "" {
		script += "[ $? = 0 ] || { echo refused; exit 1; }\n"
		ports := strings.Fields(p.port)
		for _, port := range ports[1:] {
			script += "nc -ll -p " + port + " -e /bin/busybox echo " + p.text + " &\n"
		}
		script += "exec nc -ll -p " + ports[0] + " -e /bin/busybox echo " + p.text + "\n"
	}
	files := append([]entry{{name: "entry", mode: 0o755, data: []byte(script)}}, p.files...)
	for _, applet := range []string{"nc", "grep", "cut", "tr", "id", "ip", "stat", "hostname", "cat"} {
		files = append(files, entry{name: "bin/" + applet, link: "busybox", mode: 0o777})
	}
	file := filepath.Join(dir, strings.NewReplacer("/", "-", ":", "-").Replace(p.image)+".tar")
	configuredImage(t, busybox, file, p.image, p.image, map[string]any{"Entrypoint": []string{"/entry"}}, files...)
}

// served is what the examples answer on the ports of the device.
var served = map[string]string{
	"127.0.0.1:8101": "web", "127.0.0.1:8102": "CONNACK", "127.0.0.1:8112": "CONNACK", "127.0.0.1:8103": "web by proxy",
	"127.0.0.1:8113": "web by proxy", "127.0.0.1:8114": "web by proxy", "127.0.0.1:8104": "up",
	"127.0.0.1:8124": "a pass word", "127.0.0.1:8105": "zigbee in Europe/Berlin", "127.0.0.1:8123": "home",
	"127.0.0.1:8106": "blog of root", "127.0.0.1:8107": "192.0.2.1;192.0.2.2", "127.0.0.53:53": "192.0.2.1;192.0.2.2",
	"127.0.0.1:8108": "Europe/Oslo --max-old-space-size=256", "127.0.0.1:8118": "Europe/Oslo --max-old-space-size=256",
	"127.0.0.1:8109": "web", "127.0.0.1:8110": "cloud", "127.0.0.1:8111": "web",
}

// TestExamples runs the compose files of testdata/examples, which are like the public examples of well-known programs:
// all containers run, what is published answers, and nothing that a file says is left out.
func TestExamples(t *testing.T) {
	d := newDevice(t)
	loopbackUp(t)
	if err := unix.Mount("run", "/run", "tmpfs", 0, ""); err != nil { // of this test's mount namespace
		t.Fatal(err)
	}
	dir := filepath.Join("testdata", "examples")
	examples, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range examples {
		if err := os.CopyFS(d.path("apps", e.Name()), os.DirFS(filepath.Join(dir, e.Name()))); err != nil {
			t.Fatal(err)
		}
		d.preload(e.Name())
	}
	d.engine()
	wrong := ""
	t.Cleanup(func() { t.Log(wrong) })
	d.eventually("everything answers", func() bool {
		wrong = ""
		for address, text := range served {
			if got := strings.TrimSpace(ask(address)); got != text {
				wrong += address + " answers " + got + ", want " + text + "\n"
			}
		}
		return wrong == ""
	})
	d.eventually("all containers run", func() bool { wrong = d.notRunning(); return wrong == "" })
	for _, e := range examples {
		if text := d.status(e.Name()); strings.Contains(text, "not carried out") {
			t.Errorf("%s", text)
		}
	}
}

// preload writes the images that an example names.
func (d *device) preload(app string) {
	d.t.Helper()
	files, err := filepath.Glob(d.path("apps", app, "*.yaml"))
	if err != nil {
		d.t.Fatal(err)
	}
	var text strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			d.t.Fatal(err)
		}
		text.Write(content)
	}
	images := d.path("apps", app, "images")
	if err := os.MkdirAll(images, 0o755); err != nil {
		d.t.Fatal(err)
	}
	named := strings.ReplaceAll(text.String(), "${WEB_VERSION:-1}", "1")
	for _, p := range programs {
		if strings.Contains(named, "image: "+p.image+"\n") {
			p.write(d.t, d.tools.busybox, images)
		}
	}
}

// notRunning is the first container that neither runs nor has done its job.
func (d *device) notRunning() string {
	s, err := appstatus.Read(d.path("apps.json"))
	if err != nil {
		return err.Error()
	}
	for _, app := range s.Apps {
		for _, c := range app.Containers {
			if c.State != appstatus.Up && (c.State != appstatus.Done || c.Name != "migrate") {
				return app.Name + "." + c.Name + " " + c.Reason
			}
		}
	}
	return ""
}
