package uevent

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"resinos/bsp/kmod"
	"resinos/mounts/testenv"
)

// captured on an emulated PC: a USB stick's interface, its disk, a key of the keyboard's input device.
var captured = []string{
	"add@/devices/pci0000:00/0000:00:1d.7/usb1/1-1/1-1:1.0\x00ACTION=add\x00" +
		"DEVPATH=/devices/pci0000:00/0000:00:1d.7/usb1/1-1/1-1:1.0\x00SUBSYSTEM=usb\x00DEVTYPE=usb_interface\x00" +
		"PRODUCT=46f4/1/0\x00TYPE=0/0/0\x00INTERFACE=8/6/80\x00" +
		"MODALIAS=usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00\x00SEQNUM=1201\x00",
	"add@/devices/pci0000:00/0000:00:1d.7/usb1/1-1/1-1:1.0/host2/target2:0:0/2:0:0:0/block/sda\x00" +
		"ACTION=add\x00" +
		"DEVPATH=/devices/pci0000:00/0000:00:1d.7/usb1/1-1/1-1:1.0/host2/target2:0:0/2:0:0:0/block/sda\x00" +
		"SUBSYSTEM=block\x00MAJOR=8\x00MINOR=0\x00DEVNAME=sda\x00DEVTYPE=disk\x00DISKSEQ=3\x00SEQNUM=1210\x00",
	"remove@/devices/virtual/net/veth0\x00ACTION=remove\x00DEVPATH=/devices/virtual/net/veth0\x00" +
		"SUBSYSTEM=net\x00INTERFACE=veth0\x00IFINDEX=2\x00SEQNUM=7\x00",
}

func TestParse(t *testing.T) {
	for i, want := range []Event{
		{Action: "add", Path: "/devices/pci0000:00/0000:00:1d.7/usb1/1-1/1-1:1.0", Subsystem: "usb",
			Modalias: "usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00"},
		{Action: "add", Path: "/devices/pci0000:00/0000:00:1d.7/usb1/1-1/1-1:1.0/host2/target2:0:0/2:0:0:0/block/sda",
			Subsystem: "block", Node: "sda"},
		{Action: "remove", Path: "/devices/virtual/net/veth0", Subsystem: "net"},
	} {
		got, err := Parse([]byte(captured[i]))
		if got.Keys["SEQNUM"] == "" {
			t.Errorf("message %d: keys %v, want SEQNUM among them", i, got.Keys)
		}
		got.Keys = nil
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Parse(%d) = %+v, %v, want %+v", i, got, err, want)
		}
	}
	for _, bad := range []string{"", "libudev\x00\xfe\xed\xca\xfe", "add", "@/devices/x", "add@devices/x",
		"add@/x\x00ACTION=remove\x00"} {
		if e, err := Parse([]byte(bad)); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", bad, e)
		}
	}
}

// fakeSys makes a sys root with these modalias files.
func fakeSys(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text),
			0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestPresent(t *testing.T) {
	root := fakeSys(t, map[string]string{
		"devices/pci0/a/modalias":             "pci:v1\n",
		"bus/virtio/devices/virtio0/uevent":   "",
		"bus/virtio/devices/virtio1/modalias": "virtio:d00000001v00001AF4\n",
		"bus/cpu/devices/cpu0/modalias":       "cpu:type:x86\n",
		"bus/cpu/devices/cpu1/modalias":       "cpu:type:x86\n",
		"bus/acpi/devices/empty/modalias":     "\n",
		"class/dmi/id/modalias":               "dmi:bvnSeaBIOS",
		"class/tty/tty0/modalias":             "never looked at",
	})
	if err := os.MkdirAll(filepath.Join(root, "bus/pci/devices"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../devices/pci0/a", filepath.Join(root, "bus/pci/devices/0000:00:01.0")); err != nil {
		t.Fatal(err)
	}
	want := []Device{
		{"/bus/virtio/devices/virtio1", "virtio:d00000001v00001AF4"},
		{"/bus/cpu/devices/cpu0", "cpu:type:x86"}, {"/bus/pci/devices/0000:00:01.0", "pci:v1"},
		{"/class/dmi/id", "dmi:bvnSeaBIOS"},
	}
	if got := Present(root); !reflect.DeepEqual(got, want) {
		t.Errorf("Present = %v, want %v", got, want)
	}
	if got := Present(filepath.Join(root, "nowhere")); got != nil {
		t.Errorf("Present without sysfs = %v", got)
	}
}

// asked is a loader that notes what it was asked for.
type asked struct{ modaliases []string }

func (a *asked) Serve(modalias string) ([]string, error) {
	a.modaliases = append(a.modaliases, modalias)
	if modalias == "bad" {
		return nil, errors.New("bad module")
	}
	return []string{"m"}, nil
}

// tape plays events and faults, then ends with the test's context.
type tape struct {
	steps  []any
	cancel context.CancelFunc
}

func (p *tape) Next(ctx context.Context, _ time.Time) (Event, error) {
	if len(p.steps) == 0 {
		p.cancel()
		return Event{}, context.Cause(ctx)
	}
	step := p.steps[0]
	p.steps = p.steps[1:]
	if err, isFault := step.(error); isFault {
		return Event{}, err
	}
	return Parse([]byte(step.(string)))
}

// pulse counts how often it is told.
type pulse int

func (*pulse) Until() time.Time { return time.Time{} }
func (p *pulse) Beat()          { *p++ }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestFollow(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	a, beats := &asked{}, pulse(0)
	d := &daemon{sysRoot: fakeSys(t, map[string]string{"bus/x/devices/late/modalias": "late"}), devRoot: t.TempDir(),
		loader: a, log: quiet(), alive: &beats}
	var heard []string
	prepared, lost := 0, 0
	d.event = func(e Event) { heard = append(heard, e.Action+e.Path) }
	d.prepare, d.lost = func() { prepared++ }, func() { lost++ }
	events := &tape{cancel: cancel, steps: []any{
		os.ErrDeadlineExceeded, captured[0], captured[1], captured[2], "add@/x\x00MODALIAS=bad\x00", ErrLost,
		"remove@/x\x00MODALIAS=gone\x00", "add@/y\x00MODALIAS=y\x00",
	}}
	if err := d.follow(ctx, events); err != nil {
		t.Fatal(err)
	}
	want := []string{"usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00", "bad", "late", "y"}
	if !slices.Equal(a.modaliases, want) {
		t.Errorf("asked for %q, want %q", a.modaliases, want)
	}
	if beats < 9 { // each event, the deadline, and each device
		t.Errorf("the pulse was called %d times", beats)
	}
	if got, want := strings.Join(heard[3:], " "), "add/x remove/x add/y"; len(heard) != 6 || got != want {
		t.Errorf("the observer heard %q, want at the end %s", heard, want)
	}
	if prepared != 1 || lost != 1 {
		t.Errorf("prepared %d times, told of a loss %d times, want once each", prepared, lost)
	}
	broken := errors.New("socket gone")
	if err := d.follow(t.Context(), &tape{steps: []any{broken}}); !errors.Is(err, broken) {
		t.Errorf("follow = %v, want the fault of the socket", err)
	}
}

// quietSource has no event: each Next waits until its time.
type quietSource struct{ asked int }

func (q *quietSource) Next(ctx context.Context, until time.Time) (Event, error) {
	q.asked++
	wait, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	<-wait.Done()
	return Event{}, os.ErrDeadlineExceeded
}

// TestIdle: follow ends when nothing has come for the time given, counted from the last event, unless it is busy.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := 2
		d := &daemon{sysRoot: t.TempDir(), devRoot: t.TempDir(), loader: &asked{}, log: quiet(), alive: unwatched{},
			idle: time.Minute, busy: func() bool { busy--; return busy >= 0 }}
		began, source := time.Now(), &quietSource{}
		if err := d.follow(t.Context(), source); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 3*time.Minute || source.asked != 3 {
			t.Errorf("ended after %s and %d looks, want 3m0s and 3", took, source.asked)
		}
		ctx, cancel := context.WithCancel(t.Context())
		events := &tape{cancel: cancel, steps: []any{os.ErrDeadlineExceeded, "add@/x\x00ACTION=add\x00"}}
		if err := d.follow(ctx, events); err != nil || len(events.steps) > 0 || ctx.Err() == nil {
			t.Errorf("follow = %v, ended before its events did: a deadline before the time is no rest", err)
		}
	})
}

// TestInherit: a socket that somebody else has opened has the events since then, and a Run that continues looks at no
// device.
func TestInherit(t *testing.T) {
	ownNamespace(t)
	opened, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "uevent0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		testenv.Lacking(t, "a kernel with bridges: %v", err)
	}
	fd := -1
	if rawErr := opened.raw.Control(func(n uintptr) { fd, err = unix.Dup(int(n)) }); errors.Join(err, rawErr) != nil {
		t.Fatal(err, rawErr)
	}
	events, err := Inherit(fd)
	if err != nil {
		t.Fatal(err)
	}
	sys := fakeSys(t, map[string]string{"bus/usb/devices/1-1/uevent": "MODALIAS=usb:v1\n"})
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	defer cancel()
	prepared, found := 0, false
	err = Run(ctx, Config{SysRoot: sys, DevRoot: t.TempDir(), Log: quiet(), Events: events, Continues: true,
		Prepare: func() { prepared++ },
		Event: func(e Event) {
			if e.Path == "/devices/virtual/net/uevent0" && e.Action == "add" {
				found = true
				cancel()
			}
		}})
	if err != nil || !found || prepared != 1 {
		t.Errorf("Run = %v, the event was found: %v, prepared %d times", err, found, prepared)
	}
	if _, err := Inherit(-1); err == nil {
		t.Error("a descriptor that is not open is taken")
	}
}

func TestShippedRules(t *testing.T) {
	rules, err := Rules()
	if err != nil {
		t.Fatal(err)
	}
	if mode, found := ModeOf(rules, "net/tun"); !found || mode != 0o666 {
		t.Errorf("ModeOf(net/tun) = %v, %v", mode, found)
	}
	if _, found := ModeOf(rules, "sda"); found {
		t.Error("a disk's mode is changed")
	}
	if _, found := ModeOf(rules, ""); found {
		t.Error("a device without node has a mode")
	}
}

func TestParseRulesFaults(t *testing.T) {
	_, err := ParseRules("n.toml",
		[]byte("[[node]]\npattern='../x'\nmode='0666'\n[[node]]\npattern='x'\nmode='4755'\n"+
			"[[node]]\npattern='y'\nmode='0666'\nowner='me'\n"))
	for _, want := range []string{"../x", `mode "4755"`, "unknown key node.owner"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseRules: %v, want %q", err, want)
		}
	}
}

func TestNodesAndModes(t *testing.T) {
	testenv.NeedRoot(t, "device nodes and uevents")
	dev := t.TempDir()
	if err := makeNodes(dev, []kmod.Node{{Name: "net/tun", Major: 10, Minor: 200}, {Name: "loop-control", Major: 10,
		Minor: 237}}); err != nil {
		testenv.Lacking(t, "a file system that takes device nodes: %v", err)
	}
	if err := makeNodes(dev, []kmod.Node{{Name: "net/tun", Major: 10, Minor: 200}}); err != nil {
		t.Errorf("makeNodes twice: %v", err)
	}
	plain := filepath.Join(dev, "fuse")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := Rules()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(applyModes(dev, rules), applyModes(dev, rules)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"net/tun": 0o666, "loop-control": 0o600, "fuse": 0o600} {
		st, err := os.Lstat(filepath.Join(dev, name))
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s has mode %v (%v), want %v", name, st.Mode(), err, want)
		}
	}
}

// ownNamespace gives the calling goroutine a thread in a network namespace of its own; the thread dies with it.
func ownNamespace(t *testing.T) {
	t.Helper()
	testenv.NeedRoot(t, "device nodes and uevents")
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		testenv.Lacking(t, "a network namespace: %v", err)
	}
}

func TestListenerHearsOnlyTheKernel(t *testing.T) {
	ownNamespace(t)
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	forged, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(forged)
	message := []byte("add@/devices/forged\x00ACTION=add\x00MODALIAS=usb:evil\x00")
	if err := unix.Sendto(forged, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK,
		Groups: kernelGroup}); err != nil {
		t.Fatalf("send a forged event: %v", err)
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "uevent0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		testenv.Lacking(t, "a kernel with bridges: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	defer cancel()
	for {
		e, err := l.Next(ctx, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if e.Path == "/devices/forged" {
			t.Fatal("an event of user space was taken for the kernel's")
		}
		if e.Path == "/devices/virtual/net/uevent0" && e.Action == "add" {
			return
		}
	}
}

func TestListenerEnds(t *testing.T) {
	ownNamespace(t)
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Next(ctx, time.Time{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Next = %v, want that it ends with its context", err)
	}
}

// TestListenerReportsLoss overflows the socket while nobody reads.
func TestListenerReportsLoss(t *testing.T) {
	ownNamespace(t)
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	rawErr := l.raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	if err := errors.Join(err, rawErr); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "uevent0"}}
		if err := netlink.LinkAdd(bridge); err != nil {
			testenv.Lacking(t, "a kernel with bridges: %v", err)
		}
		if err := netlink.LinkDel(bridge); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	defer cancel()
	for {
		_, err := l.Next(ctx, time.Time{})
		if errors.Is(err, ErrLost) {
			return
		}
		if err != nil {
			t.Fatalf("Next = %v, want ErrLost", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range captured {
		f.Add([]byte(c))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		if e, err := Parse(message); err == nil && (e.Action == "" || !strings.HasPrefix(e.Path, "/")) {
			t.Errorf("Parse = %+v", e)
		}
	})
}

func TestPatientlyGivesWayAndComesBack(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	nice := func() int {
		raw, err := unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid())
		if err != nil {
			t.Fatal(err)
		}
		return 20 - raw
	}
	testenv.NeedRoot(t, "a priority that is raised again")
	before, during := nice(), 0
	atLowPriority(func() { during = nice() })
	if during != moduleNice || nice() != before {
		t.Errorf("nice was %d, then %d, then %d; want %d during the work and the first one again", before, during,
			nice(), moduleNice)
	}
}

func TestLike(t *testing.T) {
	root := fakeSys(t, map[string]string{
		"bus/pci/devices/0000:00:01.0/modalias": "pci:v00001AF4d00001050bc03sc80i00\n",
		"bus/pci/devices/0000:00:02.0/modalias": "pci:v00001AF4d00001041bc02sc00i00\n",
		"bus/virtio/devices/virtio1/modalias":   "virtio:d00000010v00001AF4\n",
		"bus/platform/devices/other/modalias":   "platform:bc03\n",
	})
	got := Like(root, "pci:*bc03*")
	want := Device{Path: "/bus/pci/devices/0000:00:01.0", Modalias: "pci:v00001AF4d00001050bc03sc80i00"}
	if len(got) != 1 || got[0] != want {
		t.Errorf("Like = %+v, want %+v", got, want)
	}
}

func TestThere(t *testing.T) {
	root := fakeSys(t, map[string]string{
		"bus/pci/devices/0000:00:01.0/modalias": "pci:v00001AF4d00001050sv00001AF4sd00001100bc03sc80i00\n",
		"bus/platform/devices/gpu/modalias":     "of:NgpuT(null)Cbrcm,bcm2711-vc5\n",
		"bus/usb/devices/1-1/product":           "no modalias",
	})
	for pattern, want := range map[string]bool{
		"pci:*bc03*": true, "pci:*bc02*": false, "of:*Cbrcm,bcm2711-vc5*": true, "platform:*": false, "usb:*": false,
		"none:*": false, "pci:[": false, "": false,
	} {
		if got := There(root, pattern); got != want {
			t.Errorf("There(%q) = %t, want %t", pattern, got, want)
		}
	}
}
