package updater

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"resinos/bsp/bootvars"
	"resinos/bsp/bundle"
	"resinos/bsp/bundle/httpsource"
	"resinos/bsp/bundle/policy"
	"resinos/bsp/bundle/trust"
	"resinos/bsp/update"
	"resinos/init/confirm"
	"resinos/init/ocisource"
	"resinos/init/updatecontrol"
	"resinos/services/control"
	"resinos/services/reference"
	"resinos/services/registryclient"
	"resinos/services/rootca"
)

// installation is the one that runs, or ran last. Its zero value has never run.
type installation struct {
	mu       sync.Mutex // guards the rest
	running  bool
	progress updatecontrol.Progress
}

// prepared is a bundle that was found to be for this device.
type prepared struct {
	bundle  *bundle.Bundle
	local   bool // the bundle is a file of this device
	close   func() error
	idle    slotFile
	running slotFile
	plan    updatecontrol.Planned
}

// take claims the one place for an installation; another one is told who has it.
func (i *installation) take() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.running {
		return &control.Error{
			Text: fmt.Sprintf("busy: an update to %s is at work (%s)", i.progress.Version, i.progress.Phase),
			Hint: "try: osctl update status",
		}
	}
	i.running, i.progress = true, updatecontrol.Progress{Phase: "open"}
	return nil
}

func (i *installation) end(p updatecontrol.Progress) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.running, i.progress = false, p
}

func (i *installation) now() (p updatecontrol.Progress, running bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.progress.Phase == "" {
		return updatecontrol.Progress{Phase: updatecontrol.Idle}, false
	}
	return i.progress, i.running
}

func (i *installation) set(change func(*updatecontrol.Progress)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change(&i.progress)
}

// prepare opens a bundle and judges it. Not one byte of the slot is written here.
func (d *device) prepare(ctx context.Context, a updatecontrol.Install) (p prepared, err error) {
	keys, err := trust.Load(d.keys)
	if err != nil {
		return p, err
	}
	if p.idle, p.running, err = d.slots(); err != nil {
		return p, err
	}
	src, closeSource, err := d.openSource(ctx, a.Source)
	if err != nil {
		return p, err
	}
	_, p.local = src.(fileSource)
	p.close = closeSource
	if p.bundle, err = bundle.Open(src, keys); err != nil {
		return p, errors.Join(err, closeSource())
	}
	if err := d.judge(ctx, &p, a); err != nil {
		return p, errors.Join(err, closeSource())
	}
	return p, nil
}

// judge compares the bundle with the device and its record.
func (d *device) judge(ctx context.Context, p *prepared, a updatecontrol.Install) error {
	m := p.bundle.Manifest()
	return d.change(ctx, func(s update.Settled, loader bootvars.Bootloader) error {
		if err := d.write(s.Record, loader, s.Variables); err != nil {
			return err
		}
		if err := open(s); err != nil {
			return err
		}
		if s.Record.IsRefused(m.Slot.SHA256) && !a.Again {
			return &control.Error{
				Text: fmt.Sprintf("version %s has failed on this device: %s", m.Version, why(s.Record, m.Slot.SHA256)),
				Hint: "try: osctl update --again " + a.Source,
			}
		}
		rules := policy.Policy{Same: a.Again, Older: a.Older}
		running := policy.Running{
			Board: d.board, Variant: d.variant, Version: d.running, RollbackIndex: s.Record.Index,
			SlotSize: p.idle.size,
		}
		if err := rules.Check(m, running); err != nil {
			return &control.Error{Text: err.Error(), Hint: hint(err)}
		}
		to := d.booted.Other()
		p.plan = updatecontrol.Planned{Version: m.Version, From: d.running, Slot: string(to), Size: m.Slot.Size}
		p.plan.Steps = d.steps(*p, s.Record.Slots[to], a.NoReboot)
		return nil
	})
}

// steps says what an installation does.
func (d *device) steps(p prepared, now update.Content, noReboot bool) []string {
	to := p.plan.Slot
	list := []string{
		fmt.Sprintf("write version %s to slot %s (%s), which now holds %s",
			p.plan.Version, to, p.idle.path, holds(now)),
		fmt.Sprintf("switch: the next boot tries slot %s, %s times at most", to, bootvars.MostTries),
	}
	if !noReboot {
		list = append(list, "reboot")
	}
	return append(list,
		fmt.Sprintf("confirm slot %s when all is as well as before, else go back to slot %s", to, d.booted),
		"before it is confirmed, bring the files of the boot partition to those of the new version")
}

// open is the fault of a device that is in the middle of another update.
func open(s update.Settled) error {
	a, is := s.Record.Current()
	switch {
	case s.Leaving:
		return &control.Error{Text: "the device is going back to the other slot", Hint: "try again after the reboot"}
	case s.OnTrial:
		return &control.Error{Text: "the slot that runs is on trial",
			Hint: "try: osctl update confirm, or osctl update rollback"}
	case is && a.State == update.Trial:
		return &control.Error{Text: fmt.Sprintf("version %s is installed and waits for the reboot", a.Version),
			Hint: "try: osctl reboot"}
	}
	return nil
}

func why(r update.Record, digest string) string {
	for _, a := range r.Attempts {
		if a.Digest == digest && a.State == update.Failed {
			return a.Reason
		}
	}
	return "the reason is not known any more"
}

func holds(c update.Content) string {
	if c.Version == "" {
		return "nothing whole"
	}
	return "version " + c.Version
}

func hint(err error) string {
	switch {
	case errors.Is(err, policy.ErrSame):
		return "try: osctl update --again"
	case errors.Is(err, policy.ErrOlder):
		return "try: osctl update --older"
	}
	return ""
}

// openSource opens a file, a URL or what a reference names in a registry.
func (d *device) openSource(ctx context.Context, name string) (src bundle.Source, closeIt func() error, err error) {
	if strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://") {
		src, err := httpsource.Open(ctx, name, httpsource.Options{Roots: registryclient.Roots(rootca.Bundle)})
		return src, func() error { return nil }, err
	}
	if ref, found := strings.CutPrefix(name, reference.Scheme); found {
		src, err := ocisource.Open(ctx, ref, d.registries, httpsource.Options{})
		return src, func() error { return nil }, err
	}
	if !filepath.IsAbs(name) {
		return nil, nil, &control.Error{Text: fmt.Sprintf("%q is neither an absolute path, an http or https URL, "+
			"nor %sHOST/REPOSITORY:TAG", name, reference.Scheme)}
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hold us up
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", name)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return fileSource{f, info.Size()}, f.Close, nil
}

// fileSource is a bundle in a file. Its size is that at the beginning: what is appended meanwhile is not read.
type fileSource struct {
	*os.File
	size int64
}

func (f fileSource) Size() int64 { return f.size }

// openIdle opens the idle slot for writing, and for nobody else: as long as it is open, it cannot be mounted.
func openIdle(s slotFile) (*os.File, error) {
	f, err := os.OpenFile(s.path, os.O_RDWR|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, &control.Error{Text: fmt.Sprintf("slot %s is in use: %s", s.path, holder("/proc", s)),
			Hint: "unmount it, or end the process"}
	}
	if err != nil {
		return nil, fmt.Errorf("open slot: %w", err)
	}
	if who := opener("/proc", s); who != "" {
		return nil, errors.Join(&control.Error{Text: fmt.Sprintf("slot %s is in use: %s", s.path, who),
			Hint: "end the process"}, f.Close())
	}
	return f, nil
}

// run writes the slot and switches. The record says at each moment how far it is.
func (d *device) run(ctx context.Context, p prepared, progress func(bundle.Progress)) error {
	idle, err := openIdle(p.idle)
	if err != nil {
		return err
	}
	defer idle.Close() // Install has written it out, or nobody is to use it
	running, err := os.Open(p.running.path)
	if err != nil {
		return fmt.Errorf("open slot that runs: %w", err)
	}
	defer running.Close()
	m := p.bundle.Manifest()
	attempt := update.Attempt{Version: m.Version, From: d.running, Slot: d.booted.Other(), Digest: m.Slot.SHA256,
		Index: m.RollbackIndex,
		State: update.Writing, Began: time.Now()}
	release, err := update.Lock(d.writing)
	if err != nil {
		return err
	}
	defer release()
	if p.local {
		// Reading it twice is cheap, and a damaged file then costs nothing: the slot keeps what it holds.
		if err := p.bundle.Verify(ctx, progress); err != nil {
			return err
		}
	}
	if err := d.begin(ctx, attempt); err != nil {
		return err
	}
	seed, to := d.seed(running), bundle.BlockDevice{File: idle}
	if err := p.bundle.Install(ctx, seed, p.running.size, to, progress); err != nil {
		return errors.Join(err, d.abandon(ctx, err))
	}
	d.keepIndex(attempt.Slot, p.bundle)
	return d.arm(ctx, attempt)
}

// begin marks the slot as being written, on the disk, before its first byte is changed.
func (d *device) begin(ctx context.Context, a update.Attempt) error {
	return d.change(ctx, func(s update.Settled, loader bootvars.Bootloader) error {
		if err := open(s); err != nil {
			return err
		}
		s.Record.Put(a.Slot, update.Content{})
		s.Record.Allow(a.Digest)
		s.Record.Add(a)
		if err := d.writeVariables(loader, s.Variables); err != nil {
			return err // nothing is on trial, or the bootloader could boot what is half written
		}
		return d.writeRecord(s.Record)
	})
}

// abandon records why the slot was not written.
func (d *device) abandon(ctx context.Context, cause error) error {
	return d.change(ctx, func(s update.Settled, loader bootvars.Bootloader) error {
		s.Record.Abandon(cause.Error(), time.Now())
		return d.write(s.Record, loader, s.Variables)
	})
}

// arm has the next boot try the slot. The variables are the last thing that is written.
func (d *device) arm(ctx context.Context, a update.Attempt) error {
	before := confirm.Before(d.Look(ctx))
	return d.change(ctx, func(s update.Settled, loader bootvars.Bootloader) error {
		now, is := s.Record.Current()
		if !is || now.Slot != a.Slot || now.Digest != a.Digest {
			return errors.New("switch: the record of the update is gone")
		}
		now.State, now.ArmedIn, now.Before = update.Trial, d.bootID, before
		s.Record.Put(a.Slot, update.Content{Version: a.Version, Digest: a.Digest, Index: a.Index})
		if _, known := s.Record.Slots[d.booted]; !known {
			s.Record.Put(d.booted, update.Content{Version: d.running})
		}
		if err := d.writeRecord(s.Record); err != nil {
			return err
		}
		return update.WriteVariables(d.boot, loader, update.Arm(s.Variables, *now))
	})
}

// switchBack has the next boot try what the idle slot holds already.
func (d *device) switchBack(s update.Settled, loader bootvars.Bootloader, back update.Content,
	before confirm.Look) error {
	s.Record.Add(update.Attempt{Version: back.Version, From: d.running, Slot: d.booted.Other(), Index: back.Index,
		State: update.Trial,
		Began: time.Now(), ArmedIn: d.bootID, Before: confirm.Before(before)})
	a, _ := s.Record.Current()
	if err := d.writeRecord(s.Record); err != nil {
		return err
	}
	return update.WriteVariables(d.boot, loader, update.Arm(s.Variables, *a))
}
