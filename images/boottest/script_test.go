package boottest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"resinos/images/qemu"
)

// A scene is what the commands of one story act on.
type scene struct {
	ctx    context.Context
	images images
	board  string
	device *Device
	shared bool              // the device belongs to all stories of the directory: it may not be switched off
	vars   map[string]string // what the story's commands set, for the guest's shell as well
	clocks []func()          // that end the NTP servers of the story
	modem  *modemSlot        // nil: there is none
	t      testing.TB        // the story's
	disk   string            // in a story of its own: the disk that the device boots from, qcow2 or raw by its ending
}

type sceneKey struct{}

func sceneOf(ts *testscript.TestScript) *scene { return ts.Value(sceneKey{}).(*scene) }

// set gives a variable to the story and to the shell of its guest.
func (s *scene) set(ts *testscript.TestScript, name, value string) {
	ts.Setenv(name, value)
	s.vars[name] = value
}

// shellVars assigns the story's variables in the guest's shell. testscript itself expands nothing within single quotes.
func (s *scene) shellVars() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.vars)) {
		fmt.Fprintf(&b, "%s='%s'; ", name, strings.ReplaceAll(s.vars[name], "'", `'\''`))
	}
	return b.String()
}

// commandTimeout bounds one command in a guest.
const commandTimeout = time.Minute

// commands are what stories can say beside the standard commands of testscript.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"guest":      cmdGuest,
	"script":     cmdScript,
	"waitfor":    cmdWaitFor,
	"console":    cmdConsole,
	"type":       cmdType,
	"boot":       cmdBoot,
	"reboot":     cmdReboot,
	"poweroff":   cmdPowerOff,
	"goesoff":    cmdGoesOff,
	"sequence":   cmdSequence,
	"screen":     cmdScreen,
	"placard":    cmdPlacard,
	"powercut":   cmdPowerCut, // kill is testscript's own
	"qmp":        cmdQMP,
	"rawdisk":    cmdRawDisk,
	"partition":  cmdPartition,
	"fsck":       cmdFsck,
	"digest":     cmdDigest,
	"lease":      cmdLease,
	"dnsmasq":    cmdDnsmasq,
	"field":      cmdField,
	"keep":       cmdKeep,
	"reachable":  cmdReachable,
	"ntp":        cmdNTP,
	"bundle":     cmdBundle,
	"broken":     cmdBroken,
	"production": cmdProduction,
	"keeper":     cmdKeeper,
	"install":    cmdInstall,
	"registry":   cmdRegistry,
	"uplink":     cmdUplink,
	"modem":      cmdModem,
	"unit":       cmdUnit,
	"dockercli":  cmdDockerClient,
	"hardened":   cmdHardened,
	"scanned":    cmdScanned,
}

func usage(ts *testscript.TestScript, ok bool, text string) {
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}

// guest COMMAND: runs a shell command line in the guest; stdout, stderr and ! work as with exec.
func cmdGuest(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 1, "[!] guest 'COMMAND LINE'")
	runInGuest(ts, neg, args[0])
}

// script FILE: runs the lines of a file of the story by the guest's shell.
func cmdScript(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 1, "[!] script FILE")
	runInGuest(ts, neg, ts.ReadFile(args[0]))
}

func runInGuest(ts *testscript.TestScript, neg bool, command string) {
	s := sceneOf(ts)
	ctx, cancel := context.WithTimeout(s.ctx, hostLimit(commandTimeout))
	defer cancel()
	code, err := s.device.Run(ctx, s.shellVars()+command, ts.Stdout(), ts.Stderr())
	if err != nil {
		ts.Fatalf("%v\n%s", err, s.device.Guest().LastLines())
	}
	if (code != 0) != neg {
		ts.Fatalf("guest: exit status %d", code)
	}
}

// waitfor TIMEOUT COMMAND [REGEXP]: repeats a command in the guest until it succeeds (with !: fails) and prints a
// match. TIMEOUT is of the guest's time.
func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 2 || len(args) == 3, "[!] waitfor TIMEOUT 'COMMAND LINE' [REGEXP]")
	s := sceneOf(ts)
	timeout, err := time.ParseDuration(args[0])
	ts.Check(err)
	match := regexp.MustCompile("")
	if len(args) == 3 {
		match, err = regexp.Compile("(?m)" + args[2])
		ts.Check(err)
	}
	ctx, cancel := context.WithTimeout(s.ctx, hostLimit(timeout))
	defer cancel()
	end, over := deadline{left: patient(timeout)}, false
	last := "the guest has not answered"
	for {
		var said, talk bytes.Buffer
		code, err := s.device.Run(ctx, tellUptime+s.shellVars()+args[1], &said, &talk)
		if err == nil {
			uptime, out, fault := cutUptime(said.Bytes())
			if (code == 0 && match.Match(out)) != neg {
				_, _ = ts.Stdout().Write(out) // a buffer
				return
			}
			over = fault == nil && end.passed(uptime)
			last = fmt.Sprintf("exit status %d\n%s%s", code, out, talk.String())
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
		}
		if !s.device.Running() {
			ts.Fatalf("waitfor %q: the device is off; last: %s", args[1], last)
		}
		if over || ctx.Err() != nil {
			ts.Fatalf("waitfor %q: not within %v; last: %s", args[1], timeout, last)
		}
	}
}

// console REGEXP [TIMEOUT]: waits for a line on the serial console, from the start of the guest on. Where stories look
// at the console, nobody can log in to ask for the guest's time: the host gives up long after TIMEOUT.
// ! console REGEXP: there is no such line so far.
func cmdConsole(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 1 || len(args) == 2 && !neg, "[!] console REGEXP [TIMEOUT]")
	s := sceneOf(ts)
	match, err := regexp.Compile(args[0])
	ts.Check(err)
	timeout := commandTimeout
	if len(args) == 2 {
		timeout, err = time.ParseDuration(args[1])
		ts.Check(err)
	}
	limit := hostLimit(timeout)
	if neg {
		limit = 0
	}
	ctx, cancel := context.WithTimeout(s.ctx, limit)
	defer cancel()
	line, err := s.device.Guest().Console().Wait(ctx, 0, match)
	if neg && err == nil {
		ts.Fatalf("console has the line %q", line)
	}
	if !neg && err != nil {
		ts.Fatalf("%v\n%s", err, s.device.Guest().LastLines())
	}
	fmt.Fprintln(ts.Stdout(), line)
}

// type TEXT: types at the serial console; \r and \n mean what they do in Go.
func cmdType(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 1 && !neg, "type TEXT")
	text, err := strconv.Unquote(`"` + args[0] + `"`)
	ts.Check(err)
	ts.Check(sceneOf(ts).device.Guest().Console().Send(text))
}

// boot [-variant NAME] [-disk FILE]... [-rtc DATE] [-quiet] [-once] [-noise REGEXP] [-fault FAULT]...: switches the
// story's own device on. -disk adds a disk, -rtc is what the hardware clock says, -quiet does not wait for a login,
// -once makes a reboot the end, -screen adds a screen, -usb a USB host, usb.0. -noise sends stray bytes on the serial
// line until it says what matches. -fault makes accesses to the disk fail: see faultOf.
func cmdBoot(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	usage(ts, !neg && !s.shared, "boot [-variant NAME] [-disk FILE]... [-rtc DATE] [-quiet] [-once] [-noise REGEXP] "+
		"[-secondlink] [-screen], in a story with a device of its own")
	variant, quiet, once, second := "development", false, false, false
	var disks []qemu.Disk
	var faults []string
	var arguments []string
	var until *regexp.Regexp
	for len(args) > 0 {
		switch {
		case args[0] == "-quiet":
			quiet, args = true, args[1:]
			continue
		case args[0] == "-once":
			once, args = true, args[1:]
			continue
		case args[0] == "-secondlink":
			second, args = true, args[1:]
			continue
		case args[0] == "-usb":
			arguments, args = append(arguments, "-device", "qemu-xhci,id=usb"), args[1:]
			continue
		case args[0] == "-screen":
			arguments, args = append(arguments, screenOf(s.board)...), args[1:]
			continue
		case args[0] == "-modem":
			arguments, args = append(arguments, s.modemSlot(ts)...), args[1:]
			continue
		case args[0] == "-variant" && len(args) > 1:
			variant = args[1]
		case args[0] == "-rtc" && len(args) > 1:
			arguments = append(arguments, "-rtc", "base="+args[1])
		case args[0] == "-noise" && len(args) > 1:
			match, err := regexp.Compile(args[1])
			ts.Check(err)
			until = match
		case args[0] == "-fault" && len(args) > 1:
			faults = append(faults, args[1])
		case args[0] == "-disk" && len(args) > 1:
			disks = append(disks, qemu.Disk{Path: ts.MkAbs(args[1])})
		default:
			ts.Fatalf("boot: unknown argument %s", args[0])
		}
		args = args[2:]
	}
	o, err := s.images.options(s.board, variant)
	ts.Check(err)
	if second {
		arguments = append(arguments, secondLink(o.Board.Qemu.Network)...)
	}
	o.Disks, o.NoReboot, o.Arguments = disks, once, arguments
	for _, text := range faults {
		f, err := faultOf(o.Image, text)
		ts.Check(err)
		o.Faults = append(o.Faults, f)
	}
	s.chooseDisk(ts, &o)
	ts.Check(s.device.Start(s.ctx, o))
	if until != nil {
		ts.Check(s.noise(until))
	}
	if !quiet {
		_, err := s.device.Login(s.ctx)
		ts.Check(err)
	}
}

// noise sends bytes that mean nothing to anybody, many a second, until the serial line says what matches.
func (s *scene) noise(until *regexp.Regexp) error {
	ctx, cancel := context.WithTimeout(s.ctx, patient(commandTimeout))
	defer cancel()
	console := s.device.Guest().Console()
	said := make(chan error, 1)
	go func() {
		_, err := console.Wait(ctx, 0, until)
		said <- err
	}()
	often := time.NewTicker(50 * time.Millisecond)
	defer often.Stop()
	for {
		select {
		case err := <-said:
			return err
		case <-often.C:
			if err := console.Send("x \r\xff"); err != nil {
				return errors.Join(err, <-said)
			}
		}
	}
}

// chooseDisk boots from the raw disk that the story made, or from an overlay that lasts for the story.
func (s *scene) chooseDisk(ts *testscript.TestScript, o *qemu.Options) {
	if s.disk == "" {
		s.disk = ts.MkAbs("disk.qcow2")
		ts.Check(qemu.Overlay(s.ctx, o.Image, "", s.disk))
	}
	o.Image = s.disk
	if strings.HasSuffix(s.disk, ".qcow2") {
		o.Format = "qcow2"
	}
}

// reboot [COMMAND]: reboots through COMMAND (osctl reboot) and waits for a login at the next boot.
func cmdReboot(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) <= 1 && !neg, "reboot [COMMAND]")
	command := "osctl reboot"
	if len(args) == 1 {
		command = args[0]
	}
	s := sceneOf(ts)
	ts.Check(s.device.Reboot(s.ctx, command))
}

// poweroff: powers the story's own device off and waits until it is.
func cmdPowerOff(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	usage(ts, len(args) == 0 && !neg && !s.shared, "poweroff, in a story with a device of its own")
	ts.Check(s.device.PowerOff(s.ctx))
}

// goesoff [COMMAND]: runs a command that ends the story's own device, if there is one, and waits until it is off.
func cmdGoesOff(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	usage(ts, len(args) <= 1 && !neg && !s.shared, "goesoff ['COMMAND LINE'], in a story with a device of its own")
	ctx, cancel := context.WithTimeout(s.ctx, patient(commandTimeout))
	defer cancel()
	if len(args) == 1 {
		_, _ = s.device.Run(ctx, args[0], ts.Stdout(), ts.Stderr()) // the device may hang up without telling a status
	}
	ts.Check(s.device.AwaitOff(s.ctx))
}

// sequence REGEXP...: the console has lines that match, in this order.
func cmdSequence(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) > 0 && !neg, "sequence REGEXP...")
	lines := sceneOf(ts).device.Guest().Console().Tail(1000)
	all := strings.Join(lines, "\n")
	for _, text := range args {
		match, err := regexp.Compile(text)
		ts.Check(err)
		i := slices.IndexFunc(lines, match.MatchString)
		if i < 0 {
			ts.Fatalf("sequence: %s does not come (any more) in\n%s", text, all)
		}
		lines = lines[i+1:]
	}
}

// powercut: takes the power away from the story's own device.
func cmdPowerCut(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	usage(ts, len(args) == 0 && !neg && !s.shared, "powercut, in a story with a device of its own")
	s.device.Kill()
}

// qmp COMMAND [JSON]: runs a command of QEMU's monitor and prints its answer.
func cmdQMP(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 1 || len(args) == 2, "[!] qmp COMMAND [ARGUMENTS as JSON]")
	s := sceneOf(ts)
	var arguments any
	if len(args) == 2 {
		arguments = json.RawMessage(args[1])
	}
	ctx, cancel := context.WithTimeout(s.ctx, patient(commandTimeout))
	defer cancel()
	var answer json.RawMessage
	err := s.device.Guest().QMP().Do(ctx, args[0], arguments, &answer)
	if (err != nil) != neg {
		ts.Fatalf("qmp %s: %v", args[0], err)
	}
	fmt.Fprintf(ts.Stdout(), "%s\n", answer)
}

// rawdisk [-variant NAME] [FILE]: copies an image to a raw file. Without FILE, the story's own device boots from it.
func cmdRawDisk(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	variant := "development"
	if len(args) > 1 && args[0] == "-variant" {
		variant, args = args[1], args[2:]
	}
	usage(ts, len(args) <= 1 && !neg && !s.shared, "rawdisk [-variant NAME] [FILE]")
	o, err := s.images.options(s.board, variant)
	ts.Check(err)
	file := ts.MkAbs("disk.img")
	if len(args) == 1 {
		file = ts.MkAbs(args[0])
	} else {
		s.disk = file
	}
	from, err := os.Open(o.Image)
	ts.Check(err)
	defer from.Close()
	to, err := os.Create(file)
	ts.Check(err)
	stat, err := from.Stat()
	ts.Check(err)
	ts.Check(errors.Join(copySparse(to, from), to.Truncate(stat.Size()), to.Close()))
}

// partition get|put|rename LABEL FILE|NAME, partition zero LABEL: on the raw disk of the story, which must be off.
func cmdPartition(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	usage(ts, len(args) >= 2 && !neg && strings.HasSuffix(s.disk, ".img"),
		"partition get|put|rename LABEL FILE|NAME, or partition zero LABEL, after rawdisk")
	switch {
	case args[0] == "get" && len(args) == 3:
		ts.Check(GetPartition(s.disk, args[1], ts.MkAbs(args[2])))
	case args[0] == "put" && len(args) == 3:
		ts.Check(PutPartition(s.disk, args[1], ts.MkAbs(args[2])))
	case args[0] == "rename" && len(args) == 3:
		ts.Check(RenamePartition(s.disk, args[1], args[2]))
	case args[0] == "zero" && len(args) == 2:
		zeros := ts.MkAbs("zeros")
		ts.Check(os.WriteFile(zeros, make([]byte, 4<<20), 0o600)) // all that a file system is known by
		ts.Check(PutPartition(s.disk, args[1], zeros))
	default:
		ts.Fatalf("partition: unknown arguments %q", args)
	}
}

// fsck: the file systems of the story's disk are as a clean end leaves them.
func cmdFsck(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	usage(ts, len(args) == 0 && s.disk != "", "[!] fsck, after poweroff")
	if s.device.Running() {
		ts.Fatalf("fsck: the device is running")
	}
	dir, err := os.MkdirTemp(ts.MkAbs("."), "fsck")
	ts.Check(err)
	raw := filepath.Join(dir, "whole.img")
	ts.Check(Flatten(s.ctx, s.disk, raw))
	err = CheckFileSystems(s.ctx, raw, dir)
	if (err != nil) != neg {
		ts.Fatalf("fsck: %v", err)
	}
	ts.Check(os.RemoveAll(dir))
}

// digest VARIABLE FILE: sets VARIABLE to the SHA-256 of a file on the host.
func cmdDigest(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 2 && !neg, "digest VARIABLE FILE")
	f, err := os.Open(ts.MkAbs(args[1]))
	ts.Check(err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	ts.Check(err)
	sceneOf(ts).set(ts, args[0], hex.EncodeToString(h.Sum(nil)))
}

// lease [TIMEOUT]: waits until the DHCP server has given the device a lease, and prints what it keeps about it. Before
// that nobody can ask the guest for its time: the host gives up long after TIMEOUT.
func cmdLease(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) <= 1 && !neg, "lease [TIMEOUT]")
	timeout := commandTimeout
	if len(args) == 1 {
		var err error
		timeout, err = time.ParseDuration(args[0])
		ts.Check(err)
	}
	s := sceneOf(ts)
	end := time.Now().Add(hostLimit(timeout))
	for ; ; time.Sleep(200 * time.Millisecond) { // sleep: each look reads a file
		line, err := s.device.lab.Lease(s.device.number)
		ts.Check(err)
		if line != "" {
			fmt.Fprintln(ts.Stdout(), line)
			return
		}
		if time.Now().After(end) || !s.device.Running() {
			ts.Fatalf("lease: none within %v\n%s", timeout, s.device.Guest().LastLines())
		}
	}
}

// dnsmasq REGEXP: the DHCP and DNS server has logged such a line.
func cmdDnsmasq(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 1, "[!] dnsmasq REGEXP")
	match, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	if said := sceneOf(ts).device.lab.Said(); match.MatchString(said) == neg {
		ts.Fatalf("dnsmasq says:\n%s", said)
	}
}

// field VARIABLE PATH: sets VARIABLE to a value of the JSON that the last command printed. PATH is keys joined by dots;
// in a list, KEY=VALUE picks the object that has it. Example: field PID name=logd.pid
func cmdField(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 2 && !neg, "field VARIABLE PATH")
	var value any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &value))
	found, err := pick(value, args[1])
	ts.Check(err)
	sceneOf(ts).set(ts, args[0], found)
}

// keep VARIABLE [REGEXP]: sets VARIABLE to the first match (or its first group) in what the last command printed, by
// default to all of it.
func cmdKeep(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, (len(args) == 1 || len(args) == 2) && !neg, "keep VARIABLE [REGEXP]")
	text := strings.TrimSpace(ts.ReadFile("stdout"))
	if len(args) == 2 {
		match, err := regexp.Compile("(?m)" + args[1])
		ts.Check(err)
		groups := match.FindStringSubmatch(text)
		if groups == nil {
			ts.Fatalf("keep: no match for %s", args[1])
		}
		text = groups[len(groups)-1]
	}
	sceneOf(ts).set(ts, args[0], text)
}

// reachable PORT: something accepts TCP connections on that port of the device.
func cmdReachable(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 1, "[!] reachable PORT")
	s := sceneOf(ts)
	err := reach(s.ctx, fmt.Sprintf("%s:%s", Address(s.device.number), args[0]), !neg)
	if (err != nil) != neg {
		ts.Fatalf("reach port %s: %v", args[0], err)
	}
}

// pick follows a path through decoded JSON.
func pick(value any, path string) (string, error) {
	for _, part := range strings.Split(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			found, has := v[part]
			if !has {
				return "", fmt.Errorf("pick %s: no key %s", path, part)
			}
			value = found
		case []any:
			found, err := pickItem(v, part)
			if err != nil {
				return "", fmt.Errorf("pick %s: %w", path, err)
			}
			value = found
		default:
			return "", fmt.Errorf("pick %s: nothing is below %v", path, v)
		}
	}
	if f, ok := value.(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64), nil
	}
	return fmt.Sprint(value), nil
}

func pickItem(list []any, part string) (any, error) {
	key, want, filter := strings.Cut(part, "=")
	if !filter {
		i, err := strconv.Atoi(part)
		if err != nil || i < 0 || i >= len(list) {
			return nil, fmt.Errorf("no item %s", part)
		}
		return list[i], nil
	}
	for _, item := range list {
		if object, ok := item.(map[string]any); ok && fmt.Sprint(object[key]) == want {
			return item, nil
		}
	}
	return nil, fmt.Errorf("no item with %s", part)
}
