package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"resinos/bsp/apt"
	"resinos/bsp/boards"
	"resinos/images/inspect"
	"resinos/images/qemu"
)

// runFlags are the flags of resin run.
type runFlags struct {
	board, cache string
	memory, cpus int
	port         int
	keep         bool
	disks        []string
	timeout      time.Duration
}

const runLong = `Boots an image in QEMU.

The file stays as it was built: the writes of the device go into a temporary overlay, which is lost when QEMU ends. With
--keep they go into the file. A device creates a host key, a UUID and identifiers at its first boot, so such a file
belongs to one device and must not be shipped (resin inspect says so).

On a terminal the device's serial console is attached until you leave (Ctrl-] or Ctrl-a x) or the device powers off.
Without a terminal the command waits for the first output of a container, prints the time line of the boot, powers the
device off and fails if any of that does not happen in time.`

const runExample = `  resin run my.img --ssh-port 2222
  cp my.img device.img && truncate -s 8G device.img && resin run --keep device.img     # a disk of 8 GiB that lasts`

// runCommand returns the command resin run.
func runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{Use: "run FILE", Short: "Boots an image in QEMU", Long: runLong, Args: countArgs(1),
		Example: runExample}
	c.Flags().StringVar(&f.board, "board", "", "board to emulate (default: the board that the image was built for)")
	c.Flags().StringVar(&f.cache, "cache", ".cache", "directory for downloads: the board's firmware")
	c.Flags().IntVar(&f.memory, "memory", qemu.DefaultMemory, "memory of the device in MiB")
	c.Flags().IntVar(&f.cpus, "cpus", 1, "processors of the device")
	c.Flags().IntVar(&f.port, "ssh-port", 0, "port of this host that is forwarded to the device's ssh (0: a free one)")
	c.Flags().BoolVar(&f.keep, "keep", false, "writes the changes of the device into the image and the further disks")
	c.Flags().StringArrayVar(&f.disks, "disk", nil, "attaches the raw disk `FILE`; may be repeated")
	c.Flags().DurationVar(&f.timeout, "timeout", 5*time.Minute, "longest time to wait without a terminal")
	c.RunE = func(c *cobra.Command, args []string) error {
		return runImage(c.Context(), args[0], f)
	}
	return c
}

// runImage starts the guest and, depending on the input, attaches the console or waits for the first output.
func runImage(ctx context.Context, image string, f runFlags) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	options, err := runOptions(ctx, image, f)
	if err != nil {
		return err
	}
	guest, err := startGuest(ctx, options, f.port == 0)
	if err != nil {
		return err
	}
	defer guest.Kill()
	fmt.Fprintf(os.Stderr, "resin: %s runs as process %d; %s\nresin: %s\n",
		options.Board.Name, guest.PID(), entrance(variantOf(ctx, image), portOf(guest)), fate(image, f.keep))
	if term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd())) {
		return attach(ctx, guest, os.Stdin, os.Stdout)
	}
	ctx, stop := context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("not done after %v", f.timeout))
	defer stop()
	return watchBoot(ctx, guest, os.Stdout)
}

// entrance says how a person gets into the device.
func entrance(variant, port string) string {
	if variant != "production" {
		return fmt.Sprintf("ssh -p %s root@localhost", port)
	}
	return fmt.Sprintf("a production image says nothing on its console; with your key in os.sshKeys of its "+
		"config.json (docs/device.md): ssh -p %s root@localhost osctl status", port)
}

// variantOf returns the variant of the slot that an image boots; empty if the image does not say.
func variantOf(ctx context.Context, image string) string {
	report, err := inspect.Image(ctx, image)
	if err != nil {
		return ""
	}
	for _, s := range report.Slots {
		if s.Name == report.Slot && s.Manifest != nil {
			return s.Manifest.Variant
		}
	}
	return ""
}

// fate describes what happens to the writes of the device.
func fate(image string, keep bool) string {
	if keep {
		return "the device writes into " + image + ": do not ship this file any more"
	}
	return "the writes of the device are lost when QEMU ends; --keep writes them into " + image
}

func portOf(g *qemu.Guest) string {
	address := g.SSHAddress()
	return address[bytes.LastIndexByte([]byte(address), ':')+1:]
}

func runOptions(ctx context.Context, image string, f runFlags) (qemu.Options, error) {
	name := f.board
	if name == "" {
		var err error
		if name, err = imageBoard(ctx, image); err != nil {
			return qemu.Options{}, err
		}
	}
	board, err := boards.Load(name)
	if err != nil {
		return qemu.Options{}, err
	}
	shown, finish := progress()
	firmware, err := qemu.Firmware(ctx, board, f.cache, func(p apt.Progress) { shown.Advance(p.What, p.Done, p.Total) })
	finish()
	if err != nil {
		return qemu.Options{}, err
	}
	o := f.options(image)
	o.Board, o.Firmware = board, firmware
	return o, nil
}

// options returns the options that the flags set.
func (f runFlags) options(image string) qemu.Options {
	o := qemu.Options{Image: image, Snapshot: !f.keep, Memory: f.memory, CPUs: f.cpus,
		Network: qemu.Network{SSHPort: f.port}}
	for _, file := range f.disks {
		o.Disks = append(o.Disks, qemu.Disk{Path: file, Snapshot: !f.keep})
	}
	return o
}

// imageBoard finds out which board the image was made for.
func imageBoard(ctx context.Context, image string) (string, error) {
	report, err := inspect.Image(ctx, image)
	if err == nil && report.Board == "" {
		err = fmt.Errorf("inspect %s: the image does not say for which board it was built", image)
	}
	if err != nil {
		return "", fmt.Errorf("%w; name the board with --board", err)
	}
	return report.Board, nil
}

// startGuest chooses a free port if findPort is set, and tries again if somebody else has used the port meanwhile.
func startGuest(ctx context.Context, o qemu.Options, findPort bool) (*qemu.Guest, error) {
	for tries := 5; ; tries-- {
		if findPort {
			var err error
			if o.Network.SSHPort, err = qemu.FreePort(); err != nil {
				return nil, err
			}
		}
		guest, err := qemu.Start(ctx, o)
		if err == nil || !findPort || tries == 0 || !errors.Is(err, qemu.ErrPort) {
			return guest, err
		}
	}
}

// attach connects the console with the terminal until the person leaves or the guest ends.
func attach(ctx context.Context, guest *qemu.Guest, in *os.File, out io.Writer) error {
	fmt.Fprintln(os.Stderr, "resin: serial console; Ctrl-] or Ctrl-a x quits and cuts the power of the device (type "+
		"poweroff in the device to shut it down)")
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("set terminal to raw mode: %w", err)
	}
	defer func() {
		_ = term.Restore(int(in.Fd()), old)
		fmt.Fprintln(os.Stderr)
	}()
	for _, line := range guest.Console().Tail(1000) { // the output before we attached
		fmt.Fprintf(out, "%s\r\n", line)
	}
	defer guest.Console().Copy(out)()
	left := make(chan error, 1)
	// ends with the program: a read of a terminal cannot be cancelled
	go func() { left <- typeInto(guest.Console(), in) }()
	select {
	case err := <-left:
		return err
	case <-guest.Done():
		return guest.Wait(ctx)
	}
}

// typist finds the keys that leave the console in the input.
type typist struct{ prefix bool }

const (
	keyLeave  = 0x1d // Ctrl-]
	keyPrefix = 0x01 // Ctrl-a; twice sends it once
)

// keys returns what to send for the keys typed, and whether the person leaves.
func (k *typist) keys(typed []byte) (send []byte, leave bool) {
	for _, b := range typed {
		switch {
		case b == keyLeave, k.prefix && b == 'x':
			return send, true
		case k.prefix:
			k.prefix = false
			if b != keyPrefix {
				send = append(send, keyPrefix)
			}
			send = append(send, b)
		case b == keyPrefix:
			k.prefix = true
		default:
			send = append(send, b)
		}
	}
	return send, false
}

func typeInto(console *qemu.Console, in io.Reader) error {
	var k typist
	buffer := make([]byte, 1024)
	for {
		n, err := in.Read(buffer)
		send, leave := k.keys(buffer[:n])
		if len(send) > 0 {
			if err := console.Send(string(send)); err != nil {
				return err
			}
		}
		if leave || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read terminal: %w", err)
		}
	}
}

// outputLine is the line that PID 1 prints on the console when a container has written its first byte. Production
// images print nothing: they report it only by ssh, which needs the development mode.
const outputLine = `resinos: container_output [0-9.]+s`

// watchBoot waits for the first output of a container, prints the time line and powers the device off. ctx limits the
// time.
func watchBoot(ctx context.Context, guest *qemu.Guest, out io.Writer) error {
	err := watchSteps(ctx, guest, out)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, guest.LastLines())
	}
	return guest.Wait(ctx)
}

func watchSteps(ctx context.Context, guest *qemu.Guest, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // ends with ctx or the guest
		select {
		case <-guest.Done():
			cancel(errors.New("the device powered itself off"))
		case <-ctx.Done():
		}
	}()
	said := make(chan string, 1)
	go func() { // ends with ctx: an image whose ssh needs a key reports it here only
		if line, err := guest.Console().Wait(ctx, 0, regexp.MustCompile(outputLine)); err == nil {
			said <- line
		}
	}()
	login := make(chan *qemu.Shell, 1)
	go func() { // ends with ctx
		if shell, err := qemu.Dial(ctx, guest.SSHAddress()); err == nil {
			login <- shell
		}
	}()
	select {
	case shell := <-login:
		defer shell.Close()
		return finishByShell(ctx, shell, said, out)
	case line := <-said:
		return finishByConsole(ctx, guest, login, line, out)
	case <-ctx.Done():
		return fmt.Errorf("wait for a container's output: %w: a production image says nothing on its console, and "+
			"answers by ssh without a key only with \"developmentMode\": true in its config.json", context.Cause(ctx))
	}
}

// loginGrace is how long after the first output ssh may answer; then the image is assumed to have no ssh.
const loginGrace = 10 * time.Second

// finishByConsole continues over ssh if that answers soon, else it presses the power button.
func finishByConsole(ctx context.Context, guest *qemu.Guest, login <-chan *qemu.Shell, line string,
	out io.Writer) error {
	select {
	case shell := <-login:
		defer shell.Close()
		return finishByShell(ctx, shell, nil, out)
	case <-time.After(loginGrace):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	fmt.Fprintln(out, line)
	return guest.QMP().PowerDown(ctx)
}

func finishByShell(ctx context.Context, shell *qemu.Shell, said <-chan string, out io.Writer) error {
	if err := awaitOutput(ctx, shell, said); err != nil {
		return err
	}
	code, err := shell.Run(ctx, "osctl boot", out, os.Stderr)
	if err == nil && code != 0 {
		err = fmt.Errorf("osctl boot ended with status %d", code)
	}
	if err != nil {
		return fmt.Errorf("print boot time line: %w", err)
	}
	// The device may close the connection before it has sent the exit status.
	_, _ = shell.Run(ctx, "osctl poweroff", out, os.Stderr)
	return nil
}

// askEvery is the time between two questions; each costs the booting device a process.
const askEvery = 2 * time.Second

// awaitOutput waits until a container has written something: the console shows it, or the device reports it when asked.
func awaitOutput(ctx context.Context, shell *qemu.Shell, said <-chan string) error {
	for {
		var text bytes.Buffer
		var report struct{ Milestones map[string]float64 }
		if _, err := shell.Run(ctx, "osctl boot --json", &text, io.Discard); err != nil {
			return err
		}
		// If PID 1 does not answer yet, the text is empty, and the question is repeated.
		if json.Unmarshal(text.Bytes(), &report) == nil && report.Milestones["container_output"] > 0 {
			return nil
		}
		select {
		case <-said:
			return nil
		case <-time.After(askEvery):
		case <-ctx.Done():
			return fmt.Errorf("wait for a container's output: %w", context.Cause(ctx))
		}
	}
}
