package updater

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"

	"resinos/bsp/bootvars"
	"resinos/bsp/bundle"
	"resinos/bsp/bundle/httpsource"
	"resinos/bsp/bundle/pack"
	"resinos/bsp/bundle/trust"
	"resinos/bsp/slot"
	"resinos/bsp/update"
	"resinos/containers/pull/pulltest"
	"resinos/init/updatecontrol"
	"resinos/mounts/fingerprint"
	"resinos/mounts/testenv"
	"resinos/services/control"
	"resinos/services/pid1"
)

// bench is a device in a directory that runs version 1.0.0 from slot A, with an updater that answers, and bundles for
// it.
type bench struct {
	t       *testing.T
	dir     string
	device  *device
	client  updatecontrol.Client
	private string

	restarts chan struct{} // the device was to be rebooted
}

func newBench(t *testing.T) *bench {
	testenv.NeedRoot(t, "a server that answers nobody else")
	b := &bench{t: t, dir: t.TempDir(), restarts: make(chan struct{}, 9)}
	private, public, err := note.GenerateKey(rand.Reader, "test")
	if err != nil {
		t.Fatal(err)
	}
	b.private = private
	b.file("keys/trust.toml", fmt.Appendf(nil, "threshold = 1\nkeys = [%q]\n", public))
	b.file("slotA", content(1))
	b.file("slotB", make([]byte, 2<<20))
	variables, err := bootvars.Grub.Encode(bootvars.New())
	if err != nil {
		t.Fatal(err)
	}
	b.file("boot/grubenv", variables)
	b.file("source/boot.scr", []byte("a script"))
	path := func(name string) string { return filepath.Join(b.dir, name) }
	b.device = &device{record: path("update.json"), lock: path("lock"), writing: path("writing"),
		confirmed: path("confirmed"), boot: path("boot"), bootSource: path("source"),
		keys: path("keys"),
		apps: path("apps.json"), booted: slot.A, bootID: "one", board: "b", variant: "development", running: "1.0.0",
		client: pid1.Client{Socket: path("none")}, log: slog.New(slog.DiscardHandler), containers: path("containers"),
		restart: func() error { b.restarts <- struct{}{}; return nil }}
	b.device.slots = func() (slotFile, slotFile, error) {
		return slotFile{path: path("slotB"), size: 2 << 20}, slotFile{path: path("slotA"), size: 2 << 20}, nil
	}
	b.serve()
	return b
}

// serve answers on a socket of the bench until the test ends.
func (b *bench) serve() {
	b.client.Socket = filepath.Join(b.dir, "socket")
	socket, err := control.Listen(b.client.Socket)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, socket, b.device, time.Hour) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			b.t.Errorf("the server ended with %v", err)
		}
		socket.Close()
	})
}

func (b *bench) file(name string, text []byte) string {
	path := filepath.Join(b.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o600)); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *bench) read(name string) []byte {
	text, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

// content is a slot of one megabyte that depends on n.
func content(n byte) []byte {
	block := make([]byte, 4096)
	all := make([]byte, 0, 1<<20)
	for i := range 256 {
		for j := range block {
			block[j] = byte(i*j>>3) ^ n*byte(j)
		}
		all = append(all, block...)
	}
	return all
}

// bundle writes a bundle of content(n) whose manifest was changed.
func (b *bench) bundle(n byte, change func(*bundle.Manifest)) string {
	m := bundle.Manifest{Format: bundle.Format, Board: "b", Variant: "development", Version: "1.1.0", RollbackIndex: 3}
	m.Slot.Size = 1 << 20
	change(&m)
	spool, err := os.CreateTemp(b.dir, "spool")
	if err != nil {
		b.t.Fatal(err)
	}
	defer spool.Close()
	var out bytes.Buffer
	if _, err := pack.Write(&out, m, bytes.NewReader(content(n)), spool, []string{b.private}); err != nil {
		b.t.Fatal(err)
	}
	return b.file(fmt.Sprintf("%d.bundle", n), out.Bytes())
}

// ends waits for the end of an installation.
func (b *bench) ends() (p updatecontrol.Progress) {
	testenv.WaitFor(b.t, "the end of the installation", func() bool {
		var err error
		p, err = b.client.Progress(b.t.Context())
		return err == nil && p.Phase.Ended()
	})
	return p
}

func (b *bench) standing() (update.Record, bootvars.Variables) {
	r, err := update.Read(b.device.record)
	if err != nil {
		b.t.Fatal(err)
	}
	_, v, err := update.ReadVariables(b.device.boot)
	if err != nil {
		b.t.Fatal(err)
	}
	return r, v
}

func same(*bundle.Manifest) {}

func TestInstall(t *testing.T) {
	b := newBench(t)
	file := b.bundle(2, same)
	// The plan is checked as the installation is, and writes nothing.
	p, err := b.client.Install(t.Context(), updatecontrol.Install{Source: file, Plan: true})
	if err != nil || p.Version != "1.1.0" || p.From != "1.0.0" || p.Slot != "B" || len(p.Steps) != 5 {
		t.Fatalf("plan %+v, %v", p, err)
	}
	if r, v := b.standing(); len(r.Attempts) != 0 || v.Try != bootvars.NoTrial ||
		!bytes.Equal(b.read("slotB"), make([]byte, 2<<20)) {
		t.Fatalf("a plan left %+v, %+v", r, v)
	}
	if _, err := b.client.Install(t.Context(), updatecontrol.Install{Source: file, NoReboot: true}); err != nil {
		t.Fatal(err)
	}
	if p := b.ends(); p.Phase != updatecontrol.Done || p.Error != "" || p.Reboot {
		t.Fatalf("it ended with %+v", p)
	}
	r, v := b.standing()
	a := r.Attempts[0]
	if a.State != update.Trial || a.Slot != slot.B || a.ArmedIn != "one" || a.Index != 3 || v.Slot != slot.A ||
		v.Try != slot.B ||
		v.Tries != bootvars.MostTries {
		t.Errorf("armed: %+v, %+v", a, v)
	}
	if !bytes.Equal(b.read("slotB")[:1<<20], content(2)) || !bytes.Equal(b.read("slotA"), content(1)) {
		t.Error("the slots are not what they are to be")
	}
	if r.Slots[slot.B].Version != "1.1.0" || r.Slots[slot.A].Version != "1.0.0" || r.Index != 0 {
		t.Errorf("slots %+v, rollback index %d", r.Slots, r.Index)
	}
	_, err = b.client.Install(t.Context(), updatecontrol.Install{Source: file})
	if err == nil || !strings.Contains(err.Error(), "waits for the reboot") {
		t.Errorf("a second one before the reboot: %v", err)
	}
	// It is taken back.
	if p, err := b.client.RollBack(t.Context(), updatecontrol.RollBack{}); err != nil || p.Slot != "A" {
		t.Errorf("roll back: %+v, %v", p, err)
	}
	if r, v := b.standing(); v.Try != bootvars.NoTrial || r.Attempts[0].State != update.Failed ||
		r.IsRefused(a.Digest) {
		t.Errorf("taken back: %+v, %+v", r, v)
	}
	// The slot was written whole, and can be gone to without another installation.
	if p, err := b.client.RollBack(t.Context(), updatecontrol.RollBack{Plan: true}); err != nil ||
		p.Version != "1.1.0" || p.Slot != "B" {
		t.Errorf("roll back to what was taken back: %+v, %v", p, err)
	}
}

// TestTrial: the boot of the new slot is confirmed, refused or left, and the way back is open.
func TestTrial(t *testing.T) {
	b := newBench(t)
	if err := b.client.Confirm(t.Context()); err == nil || !strings.Contains(err.Error(), "no slot is on trial") {
		t.Errorf("nothing to confirm: %v", err)
	}
	if _, err := b.client.RollBack(t.Context(), updatecontrol.RollBack{}); err == nil ||
		!strings.Contains(err.Error(), "holds no whole version") {
		t.Errorf("nothing to go back to: %v", err)
	}
	install := updatecontrol.Install{Source: b.bundle(2, same), NoReboot: true}
	if _, err := b.client.Install(t.Context(), install); err != nil {
		t.Fatal(err)
	}
	b.ends()
	b.boots(slot.B, "two", "1.1.0")
	script := fingerprint.Line{Path: "boot.scr", Sum: md5.Sum(b.read("source/boot.scr"))}
	b.file("source/"+fingerprint.Name, fingerprint.Print([]fingerprint.Line{script}))
	if _, err := os.Stat(filepath.Join(b.dir, "boot/boot.scr")); err == nil {
		t.Error("its boot files came before the confirmation")
	}
	if _, err := b.client.Install(t.Context(), install); err == nil || !strings.Contains(err.Error(), "is on trial") {
		t.Errorf("on trial: %v", err)
	}
	for range 2 { // the confirmation may be started again
		if err := b.device.Reached(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.client.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, v := b.standing()
	if reached := strings.Join(r.Attempts[0].Reached, " "); reached != "two" {
		t.Errorf("boots that came as far as their services: %q", reached)
	}
	if v.Slot != slot.B || v.Try != bootvars.NoTrial || r.Attempts[0].State != update.Confirmed || r.Index != 3 {
		t.Errorf("confirmed: %+v, %+v", r, v)
	}
	b.read("confirmed") // PID 1 looks for it
	if script := b.read("boot/boot.scr"); string(script) != "a script" {
		t.Errorf("the boot partition has the script %q", script)
	}
	p, err := b.client.RollBack(t.Context(), updatecontrol.RollBack{NoReboot: true})
	if err != nil || p.Version != "1.0.0" || p.Slot != "A" {
		t.Fatalf("roll back %+v, %v", p, err)
	}
	b.boots(slot.A, "three", "1.0.0")
	if err := b.device.GiveUp(t.Context(), update.Unhealthy, "the engine is down"); err != nil {
		t.Fatal(err)
	}
	r, v = b.standing()
	if a := r.Attempts[0]; v.Slot != slot.B || v.Try != bootvars.NoTrial || a.Reason != "the engine is down" ||
		a.Cause != update.Unhealthy {
		t.Errorf("left: %+v, %+v", a, v)
	}
}

// TestConfirmCut: a confirmation that ended after its first write is finished by the next look, and PID 1 then lets the
// boot go on.
func TestConfirmCut(t *testing.T) {
	b := newBench(t)
	install := updatecontrol.Install{Source: b.bundle(2, same), NoReboot: true}
	if _, err := b.client.Install(t.Context(), install); err != nil {
		t.Fatal(err)
	}
	b.ends()
	b.boots(slot.B, "two", "1.1.0")
	if s, err := b.device.Settle(t.Context()); err != nil || !s.OnTrial {
		t.Fatalf("on trial: %+v, %v", s, err)
	}
	if _, err := os.Stat(b.device.confirmed); err == nil {
		t.Error("the boot on trial counts as confirmed")
	}
	if err := update.WriteVariables(b.device.boot, bootvars.Grub, bootvars.Variables{Slot: slot.B}); err != nil {
		t.Fatal(err)
	}
	if s, err := b.device.Settle(t.Context()); err != nil || s.Record.Attempts[0].State != update.Confirmed {
		t.Errorf("after the cut: %+v, %v", s, err)
	}
	b.read("confirmed")
}

// boots is the next boot, of a slot that is on trial.
func (b *bench) boots(name slot.Name, id, version string) {
	_, v := b.standing()
	if v.Try != name {
		b.t.Fatalf("slot %s is not on trial: %+v", name, v)
	}
	v.Tries = "2"
	if err := update.WriteVariables(b.device.boot, bootvars.Grub, v); err != nil {
		b.t.Fatal(err)
	}
	b.device.booted, b.device.bootID, b.device.running = name, id, version
}

// TestRefusals: each is refused before a byte of the slot is written, with a reason.
func TestRefusals(t *testing.T) {
	b := newBench(t)
	failed := b.bundle(9, same)
	r := update.Record{Index: 2, Refused: []update.Content{{Version: "1.1.0", Digest: b.manifest(failed).Slot.SHA256}}}
	if err := r.Write(b.device.record); err != nil {
		t.Fatal(err)
	}
	cut := b.read("9.bundle")
	fifo := filepath.Join(b.dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	missing := httptest.NewServer(http.NotFoundHandler())
	defer missing.Close()
	for _, test := range []struct{ name, source, want string }{
		{"other board", b.bundle(3, func(m *bundle.Manifest) { m.Board = "c" }), "another board"},
		{"other variant", b.bundle(4, func(m *bundle.Manifest) { m.Variant = "production" }), "another variant"},
		{"older", b.bundle(5, func(m *bundle.Manifest) { m.Version = "0.9.0" }), "older than what runs"},
		{"the same", b.bundle(6, func(m *bundle.Manifest) { m.Version = "1.0.0" }), "runs already"},
		{"withdrawn", b.bundle(7, func(m *bundle.Manifest) { m.RollbackIndex = 1 }), "withdrawn"},
		{"from too old", b.bundle(8, func(m *bundle.Manifest) { m.MinFrom = "1.0.5" }), "too old"},
		{"failed here", failed, "has failed on this device"},
		{"cut short", b.file("cut", cut[:len(cut)-1]), "cut short"},
		{"garbage", b.file("garbage", []byte(strings.Repeat("x", 999))), "does not begin like a bundle"},
		{"none", "/nowhere", "no such file"},
		{"FIFO", fifo, "no regular file"},
		{"relative", "x.bundle", "neither an absolute path"},
		{"no such page", missing.URL, "404"},
	} {
		_, err := b.client.Install(t.Context(), updatecontrol.Install{Source: test.source})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	if r, v := b.standing(); len(r.Attempts) != 0 || v.Try != bootvars.NoTrial ||
		!bytes.Equal(b.read("slotB"), make([]byte, 2<<20)) {
		t.Errorf("it left %+v, %+v", r, v)
	}
	if _, err := b.client.Install(t.Context(),
		updatecontrol.Install{Source: failed, Again: true, NoReboot: true}); err != nil {
		t.Errorf("asked for again: %v", err)
	}
	if p := b.ends(); p.Phase != updatecontrol.Done {
		t.Errorf("again: %+v", p)
	}
}

func (b *bench) manifest(file string) bundle.Manifest {
	keys, err := trust.Load(b.device.keys)
	if err != nil {
		b.t.Fatal(err)
	}
	src, closeIt, err := b.device.openSource(b.t.Context(), file)
	if err != nil {
		b.t.Fatal(err)
	}
	defer closeIt()
	one, err := bundle.Open(src, keys)
	if err != nil {
		b.t.Fatal(err)
	}
	return one.Manifest()
}

// TestDamaged: a chunk that is not what the manifest says ends the installation, and nothing is switched. The next one
// succeeds.
func TestDamaged(t *testing.T) {
	b := newBench(t)
	good := b.bundle(2, same)
	damaged := b.read("2.bundle")
	damaged[len(damaged)-10] ^= 1
	file := b.file("damaged", damaged)

	// A file is read to its end before the slot is touched.
	if _, err := b.client.Install(t.Context(), updatecontrol.Install{Source: file}); err != nil {
		t.Fatal(err)
	}
	if p := b.ends(); p.Phase != updatecontrol.Failed || p.Error == "" {
		t.Errorf("the file ended with %+v", p)
	}
	if r, _ := b.standing(); len(r.Attempts) != 0 || !bytes.Equal(b.read("slotB"), make([]byte, 2<<20)) {
		t.Errorf("a damaged file left %+v", r)
	}

	// What comes from a server is verified chunk by chunk.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(damaged))
	}))
	defer server.Close()
	if _, err := b.client.Install(t.Context(), updatecontrol.Install{Source: server.URL}); err != nil {
		t.Fatal(err)
	}
	if p := b.ends(); p.Phase != updatecontrol.Failed || p.Error == "" {
		t.Errorf("it ended with %+v", p)
	}
	r, v := b.standing()
	if a := r.Attempts[0]; a.State != update.Failed || a.Cause != update.Interrupted || a.Reason == "" ||
		v.Try != bootvars.NoTrial {
		t.Errorf("damaged: %+v, %+v", a, v)
	}
	if _, whole := r.Slots[slot.B]; whole {
		t.Error("slot B counts as whole")
	}
	if _, err := b.client.Install(t.Context(), updatecontrol.Install{Source: good, NoReboot: true}); err != nil {
		t.Fatal(err)
	}
	if p := b.ends(); p.Phase != updatecontrol.Done {
		t.Errorf("the next one: %+v", p)
	}
}

// TestBusy: while one installation is at work, another one is told so; the end of the process leaves a device that goes
// on as before, and says what happened.
func TestBusy(t *testing.T) {
	b := newBench(t)
	file := b.bundle(2, same)
	held, reached := make(chan struct{}), make(chan struct{}, 100)
	stat, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	chunks := stat.Size() - b.manifest(file).Data
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var from int64
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		if from >= chunks {
			reached <- struct{}{}
			select {
			case <-held:
			case <-r.Context().Done():
				return
			}
		}
		http.ServeFile(w, r, file)
	}))
	defer files.Close()
	defer close(held)
	if _, err := b.client.Install(t.Context(), updatecontrol.Install{Source: files.URL, NoReboot: true}); err != nil {
		t.Fatal(err)
	}
	testenv.Receive(t, "a request for chunks", reached)
	_, err = b.client.Install(t.Context(), updatecontrol.Install{Source: file})
	if err == nil || !strings.Contains(err.Error(), "busy: an update to 1.1.0 is at work") {
		t.Errorf("a second one: %v", err)
	}
	if _, err := b.client.RollBack(t.Context(), updatecontrol.RollBack{}); err == nil ||
		!strings.Contains(err.Error(), "busy") {
		t.Errorf("roll back meanwhile: %v", err)
	}
	if s, err := b.device.Settle(t.Context()); err != nil || s.Record.Attempts[0].State != update.Writing {
		t.Errorf("meanwhile it is %+v, %v", s.Record, err)
	}
	if r, v := b.standing(); r.Attempts[0].State != update.Writing || v.Try != bootvars.NoTrial {
		t.Errorf("meanwhile: %+v, %+v", r, v)
	}
}

// TestIdleSlotInUse: a slot that somebody has mounted, or holds open, is refused with the name of who it is.
func TestIdleSlotInUse(t *testing.T) {
	if !testenv.InNamespace(t) {
		return
	}
	testenv.NeedPrograms(t, "mkfs.ext4", "losetup", "mount", "sleep")
	file := testenv.Disk(t, 4)
	testenv.Run(t, "mkfs.ext4", "-q", file)
	node := testenv.Run(t, "losetup", "-f", "--show", file)
	defer testenv.Run(t, "losetup", "-d", node)
	var st unix.Stat_t
	if err := unix.Stat(node, &st); err != nil {
		t.Fatal(err)
	}
	s := slotFile{path: node, size: 4 << 20, major: unix.Major(st.Rdev), minor: unix.Minor(st.Rdev)}
	f, err := openIdle(s)
	if err != nil {
		t.Fatalf("free: %v", err)
	}
	dir := t.TempDir()
	if err := unix.Mount(node, dir, "ext4", 0, ""); err == nil {
		t.Error("it was mounted while the updater had it")
	}
	f.Close()
	if err := unix.Mount(node, dir, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := openIdle(s); err == nil || !strings.Contains(err.Error(), "mounted at "+dir) {
		t.Errorf("mounted: %v", err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(node)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := os.StartProcess(testenv.NeedProgram(t, "sleep"), []string{"sleep", "1000"},
		&os.ProcAttr{Files: []*os.File{open}})
	if err != nil {
		t.Fatal(err)
	}
	open.Close()
	_, err = openIdle(s)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("opened by process %d sleep", reader.Pid)) {
		t.Errorf("opened: %v", err)
	}
	if err := errors.Join(reader.Kill()); err != nil {
		t.Error(err)
	}
	_, _ = reader.Wait() // it was killed
}

// TestIdleEnd: without requests the server ends, and that is no fault.
func TestIdleEnd(t *testing.T) {
	socket, err := control.Listen(filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := serve(t.Context(), socket, &device{log: slog.New(slog.DiscardHandler)}, time.Millisecond); err != nil {
		t.Error(err)
	}
}

// TestRegistry installs from a registry over a line that is cut again and again, and refuses what somebody has put in
// the place of the bundle before the slot is touched.
func TestRegistry(t *testing.T) {
	b, r := newBench(t), pulltest.New(t)
	r.Settings(b.dir)
	b.device.registries = []string{b.dir}
	var parts atomic.Int64
	r.Cut(func(q *http.Request) int64 {
		if q.Header.Get("Range") == "bytes=0-0" || parts.Add(1)%2 == 0 {
			return -1
		}
		return 3000
	})
	push := func(tag string, blob []byte, size int) string {
		d := r.Blob("os", httpsource.MediaType, blob)
		config := r.Blob("os", "application/json", []byte("{}"))
		r.PutManifest("os", tag, "application/vnd.oci.image.manifest.v1+json", fmt.Appendf(nil, `{"schemaVersion":2,`+
			`"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/json",`+
			`"digest":%q,"size":2},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`, config.Digest,
			httpsource.MediaType,
			d.Digest, size))
		return "oci://" + r.Host + "/os:" + tag
	}
	text, err := os.ReadFile(b.bundle(2, same))
	if err != nil {
		t.Fatal(err)
	}
	empty := b.read("slotB")
	flipped := bytes.Clone(text)
	flipped[100] ^= 1
	for tag, c := range map[string]struct {
		blob []byte
		size int
		want string
	}{
		"damaged": {flipped, len(text), "sign"},
		"short":   {text[:len(text)-5], len(text) - 5, "cut short"},
		"lie":     {text, len(text) + 5, "the manifest says"},
	} {
		_, err := b.client.Install(t.Context(), updatecontrol.Install{Source: push(tag, c.blob, c.size)})
		if err == nil || !strings.Contains(err.Error(), c.want) || !bytes.Equal(b.read("slotB"), empty) {
			t.Errorf("%s: %v, want %q and an untouched slot", tag, err, c.want)
		}
	}
	source := push("good", text, len(text))
	if _, err := b.client.Install(t.Context(), updatecontrol.Install{Source: source, NoReboot: true}); err != nil {
		t.Fatal(err)
	}
	if p := b.ends(); p.Phase != updatecontrol.Done || !bytes.Equal(b.read("slotB")[:1<<20], content(2)) {
		t.Errorf("installation ended with %+v", p)
	}
	if parts.Load() < 4 {
		t.Errorf("the registry was asked for %d parts", parts.Load())
	}
}
