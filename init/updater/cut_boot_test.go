package updater

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"resinos/bsp/boards"
	"resinos/images/powercut"
	"resinos/images/powercut/recording"
	"resinos/images/qemu"
)

// The patience with a boot of a disk after a cut, up to three tries of a trial included, and with one question.
const (
	bootPatience   = 15 * time.Minute
	answerPatience = time.Minute
)

// bootEach boots one disk of each class that the judges have found, in QEMU: it must come as far as a container that
// runs, and keep the slot that it runs from.
func (c *cutDevice) bootEach(rec *recording.Recording, effort powercut.Effort, report *powercut.Report) {
	classes := map[powercut.StateID][]string{}
	var order []powercut.StateID
	for _, class := range report.Classes {
		if classes[class.Example] == nil {
			order = append(order, class.Example)
		}
		classes[class.Example] = append(classes[class.Example], class.Region+": "+class.Words)
	}
	for _, id := range order {
		disk := filepath.Join(c.t.TempDir(), "disk.img")
		c.must(powercut.WriteState(rec, id, effort, disk))
		said, err := c.bootDisk(disk)
		if err != nil {
			c.t.Errorf("boot the disk of state %s (%s): %v", id, strings.Join(classes[id], "; "), err)
		}
		c.t.Logf("state %s (%s) boots: %s", id, strings.Join(classes[id], "; "), said)
		c.must(os.Remove(disk))
	}
}

// bootDisk boots a disk and returns how the device says that the update stands in the end.
func (c *cutDevice) bootDisk(disk string) (said string, err error) {
	board, err := boards.Load(boardOf[c.loader])
	if err != nil {
		return "", err
	}
	files, err := qemu.Firmware(c.t.Context(), board, "../../.cache", nil)
	if err != nil {
		return "", err
	}
	port, err := qemu.FreePort()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), bootPatience)
	defer cancel()
	guest, err := qemu.Start(ctx, qemu.Options{Board: board, Firmware: files, Image: disk,
		Network: qemu.Network{SSHPort: port}})
	if err != nil {
		return "", err
	}
	defer guest.Kill()
	const question = "osctl ps hello | grep -q ' up ' && " +
		"osctl update status --json | grep -q '\"on_trial\": *false' && osctl update status | grep -e 'runs '"
	for {
		said, err = ask(ctx, guest.SSHAddress(), question)
		if err == nil {
			return said, nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return "", fmt.Errorf("%w: %w\n%s", context.Cause(ctx), err, guest.LastLines())
		}
	}
}

// ask runs a command in a guest, which may reboot meanwhile. It must succeed.
func ask(ctx context.Context, address, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	shell, err := qemu.Dial(ctx, address)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	code, err := shell.Run(ctx, command, &out, io.Discard)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s: exit status %d", command, code)
	}
	return strings.TrimSpace(out.String()), errors.Join(err, shell.Close())
}
