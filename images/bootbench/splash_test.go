package bootbench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"resinos/bsp/boards"
	"resinos/images/build"
	"resinos/images/qemu"
	"resinos/mounts/testenv"
	"resinos/services/bootreport"
)

// bootOffset is where resin-boot begins in an image.
const bootOffset = "@@4194304"

// logo is the file of the owner's logo, as mtools name it.
const logo = "::splash/resin-logo.png"

// screening is a row of the bench of the splash.
type screening struct {
	name   string
	screen bool
	logo   string // whose file there is; empty: none
}

var screens = []screening{
	{"a screen and a logo", true, "ours"},
	{"a screen, no logo", true, ""},
	{"a logo, no screen", false, "ours"},
	{"a screen, a file of 34 MB", true, "huge"},
}

// splashDevice is a production image that has been booted once, and how it is reached.
type splashDevice struct {
	options    qemu.Options
	key, saved string // of ssh; the logo
}

// TestSplashBench boots production images of each board (RESINOS_ONLY) with counted instructions, with and without a
// screen and a logo, and prints when the logo was up and when the first container spoke, in seconds of the guest's
// time. With RESINOS_IMAGE, a directory, it takes BOARD.img of it, in place of new images.
func TestSplashBench(t *testing.T) {
	if os.Getenv(benchVariable) == "" {
		t.Skip("set " + benchVariable + "=1")
	}
	testenv.NeedPrograms(t, "qemu-system-x86_64", "qemu-system-aarch64", "mcopy", "mdel", "ssh", "ssh-keygen")
	only := regexp.MustCompile(os.Getenv(onlyVariable))
	for _, board := range []string{"qemu-x86_64", "qemu-arm64"} {
		rows := slices.DeleteFunc(slices.Clone(screens), func(row screening) bool {
			return !only.MatchString(board + ", " + row.name)
		})
		if len(rows) == 0 {
			continue
		}
		t.Run(board, func(t *testing.T) {
			d := newSplashDevice(t, board)
			for _, row := range rows {
				d.setLogo(t, row.logo)
				t.Logf("%s, %s: %s", board, row.name, d.measure(t, row.screen))
			}
		})
	}
}

func newSplashDevice(t *testing.T, name string) *splashDevice {
	board, err := boards.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	cache, dir := filepath.Join(top, ".cache"), t.TempDir()
	files, err := qemu.Firmware(t.Context(), board, cache, nil)
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "device.img")
	if from := os.Getenv(imageVariable); from != "" {
		command(t, "cp", "--sparse=always", filepath.Join(from, name+".img"), image)
	} else if _, err := build.Build(t.Context(), build.Options{Board: name, Variant: "production", Output: image,
		Apps: []string{"hello"}, Binaries: filepath.Join(top, "bin"), Cache: cache}); err != nil {
		t.Fatal(err)
	}
	d := &splashDevice{options: qemu.Options{Board: board, Firmware: files, Image: image},
		key: filepath.Join(dir, "key"), saved: filepath.Join(dir, "logo.png")}
	command(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", d.key)
	public, err := os.ReadFile(d.key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.json")
	if err := os.WriteFile(config, fmt.Appendf(nil, `{"os": {"sshKeys": [%q]}}`,
		strings.TrimSpace(string(public))), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "mcopy", "-o", "-i", image+bootOffset, config, "::config.json")
	command(t, "mcopy", "-i", image+bootOffset, logo, d.saved)
	d.boot(t, d.options, func(run func(string) string) {
		await(t, run, "osctl status --json grow", `"state": *"(done|exited|down)"|"ready": *[0-9]`)
	})
	return d
}

// setLogo changes the image while nothing runs.
func (d *splashDevice) setLogo(t *testing.T, whose string) {
	switch whose {
	case "ours":
		command(t, "mcopy", "-o", "-i", d.options.Image+bootOffset, d.saved, logo)
	case "huge":
		huge := filepath.Join(t.TempDir(), "huge.png")
		if err := os.WriteFile(huge, make([]byte, 34_000_000), 0o600); err != nil {
			t.Fatal(err)
		}
		command(t, "mcopy", "-o", "-i", d.options.Image+bootOffset, huge, logo)
	default:
		command(t, "mdel", "-i", d.options.Image+bootOffset, logo)
	}
}

// measure boots with counted instructions. What the guest writes is lost.
func (d *splashDevice) measure(t *testing.T, screen bool) string {
	o := d.options
	o.Shift, o.Snapshot = countShift, true
	if screen {
		card := "VGA"
		if o.Board.Name != boardName {
			card = "virtio-gpu-pci"
		}
		o.Devices = append(o.Devices, card)
	}
	var out strings.Builder
	d.boot(t, o, func(run func(string) string) {
		await(t, run, "osctl boot --json", bootreport.MilestoneContainerOutput)
		var r bootreport.Report
		if err := json.Unmarshal([]byte(run("osctl boot --json")), &r); err != nil {
			t.Fatal(err)
		}
		began := r.Milestones[bootreport.MilestoneRoot]
		for _, name := range []string{bootreport.MilestoneServices, bootreport.MilestoneEngine,
			bootreport.MilestoneContainerOutput} {
			fmt.Fprintf(&out, "%s %.2f, ", name, r.Milestones[name]-began)
		}
		fmt.Fprintf(&out, "after PID 1 began at %.2f\n", began)
		for _, s := range r.Steps {
			if s.Stage == bootreport.StageRoot {
				fmt.Fprintf(&out, "  %.3f %s %.3f %s\n", s.Start-began, s.Name, s.Duration, s.Error)
			}
		}
		fmt.Fprintln(&out, run("osctl logs -u splash"), run("osctl status --json splash"))
	})
	return out.String()
}

// boot starts the device, hands over what runs a command there, and powers it off.
func (d *splashDevice) boot(t *testing.T, o qemu.Options, use func(run func(string) string)) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), bootTimeout, fmt.Errorf("not done after %v", bootTimeout))
	defer cancel()
	port, err := qemu.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	o.Network.SSHPort = port
	guest, err := qemu.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Kill()
	run := func(line string) string {
		var out, talk bytes.Buffer
		for {
			out.Reset()
			talk.Reset()
			c := exec.CommandContext(ctx, "ssh", "-F", "/dev/null", "-i", d.key, "-o", "StrictHostKeyChecking=no",
				"-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20",
				"-p", strconv.Itoa(port), "root@127.0.0.1", line)
			c.Stdout, c.Stderr = &out, &talk
			err := c.Run()
			var status *exec.ExitError
			if err == nil || errors.As(err, &status) && status.ExitCode() != 255 {
				return out.String()
			}
			if pause(ctx, time.Second) != nil {
				t.Fatalf("log in: %v: %s", context.Cause(ctx), talk.String())
			}
		}
	}
	use(run)
	if err := guest.QMP().PowerDown(ctx); err != nil {
		t.Fatal(err)
	}
	if err := guest.Wait(ctx); err != nil {
		t.Fatal(err)
	}
}

// await repeats a command until it prints what is wanted.
func await(t *testing.T, run func(string) string, line, want string) {
	expression := regexp.MustCompile(want)
	for last := ""; ; {
		if last = run(line); expression.MatchString(last) {
			return
		}
		if pause(t.Context(), time.Second) != nil {
			t.Fatalf("%s: %s", line, last)
		}
	}
}

func command(t *testing.T, argv ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	c.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}
