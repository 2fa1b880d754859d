// Package inspect reads a disk image and reports its content.
//
// It owns the report of the partitions, of the free space in their file systems and of the content of each slot. It
// never writes, never mounts, and does not trust what it reads. Read first: Report.
package inspect

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
	"resinos/images/assemble"
	"resinos/images/layout"
	"resinos/mounts/disk"
	"resinos/mounts/fat"
)

// Report is the content of an image.
type Report struct {
	Image      string      `json:"image"`
	GUID       string      `json:"guid"`
	Size       int64       `json:"size"`
	Board      string      `json:"board,omitempty"`
	Slot       string      `json:"slot,omitempty"` // the slot to boot
	Booted     bool        `json:"booted"`         // a device has run from it and left its identity in it
	Partitions []Partition `json:"partitions"`
	Slots      []Slot      `json:"slots"`
}

// Partition is one partition with the free space in its file system.
type Partition struct {
	Number     int    `json:"number"`
	Label      string `json:"label"`
	GUID       string `json:"guid"`
	Start      int64  `json:"start"`
	Size       int64  `json:"size"`
	FileSystem string `json:"file_system"` // vfat or ext4; empty if unknown
	Name       string `json:"name,omitempty"`
	UUID       string `json:"uuid,omitempty"`
	Used       int64  `json:"used"`
	Free       int64  `json:"free"`
	Clean      bool   `json:"clean"`   // nothing has to be repaired or replayed
	Mounted    bool   `json:"mounted"` // it was mounted for writing; known of ext4 only
}

// Slot is one slot; an empty one has no manifest.
type Slot struct {
	Name     string         `json:"name"`
	Empty    bool           `json:"empty"`
	Manifest *slot.Manifest `json:"manifest,omitempty"`
	Fault    string         `json:"fault,omitempty"` // why the manifest cannot be read
}

// Image reads an image. A file system or slot that cannot be read is a line in the report, not an error.
func Image(ctx context.Context, name string) (Report, error) {
	plan, err := assemble.ReadTable(name)
	if err != nil {
		return Report{}, err
	}
	f, err := os.Open(name)
	if err != nil {
		return Report{}, err
	}
	defer f.Close() // nothing was written
	r := Report{Image: name, GUID: plan.GUID, Size: int64(plan.Size)}
	for _, p := range plan.Partitions {
		part := Partition{Number: p.Number, Label: p.Label, GUID: p.GUID, Start: int64(p.Start), Size: int64(p.Size)}
		part.usage(io.NewSectionReader(f, part.Start, part.Size))
		r.Partitions = append(r.Partitions, part)
		switch p.Label {
		case layout.Boot:
			r.bootPartition(f, p)
		case layout.State, layout.Data:
			r.Booted = r.Booted || part.Mounted
		case layout.RootA, layout.RootB:
			r.Slots = append(r.Slots, readSlot(ctx, name, part))
		}
	}
	return r, nil
}

// readSlot reads the manifest of a slot.
func readSlot(ctx context.Context, image string, p Partition) Slot {
	s := Slot{Name: strings.TrimPrefix(p.Label, "resin-root"), Empty: p.FileSystem == ""}
	if s.Empty {
		return s
	}
	text, err := assemble.ReadExt4File(ctx, image, disk.Bytes(p.Start), "/"+slot.ManifestFile)
	if err == nil {
		var m slot.Manifest
		if m, err = slot.ParseManifest(text); err == nil {
			s.Manifest = &m
		}
	}
	if err != nil {
		s.Fault = err.Error()
	}
	return s
}

// bootPartition reads the board and the slot to boot. What is missing stays empty.
func (r *Report) bootPartition(f *os.File, p layout.Partition) {
	files, err := fat.Open(io.NewSectionReader(f, int64(p.Start), int64(p.Size)))
	if err != nil {
		return
	}
	read := func(name string) []byte {
		text, _ := files.Read(name) // a missing file has no text
		return text
	}
	var device struct{ Slug string }
	if json.Unmarshal(read("/device-type.json"), &device) == nil {
		r.Board = device.Slug
	}
	for _, loader := range bootvars.Bootloaders() {
		if v, err := loader.Parse(read("/" + loader.File())); err == nil {
			r.Slot = string(v.Slot)
		}
	}
}

// String returns the report for people.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: disk of %.0f MiB, board %s, boots slot %s\nguid %s\n\n", r.Image, mib(r.Size),
		or(r.Board, "unknown"), or(r.Slot, "unknown"), r.GUID)
	if r.Booted {
		fmt.Fprintf(&b, "a device was booted from it: its host key, uuid and identifiers are in it; do not ship it, "+
			"but build another\n\n")
	}
	fmt.Fprintf(&b, "%-2s %-12s %-5s %9s %9s %9s %9s  %s\n", "#", "label", "fs", "at MiB", "size MiB", "used MiB",
		"free MiB", "partition guid")
	for _, p := range r.Partitions {
		used, free := "-", "-"
		if p.FileSystem != "" {
			used, free = fmt.Sprintf("%.1f", mib(p.Used)), fmt.Sprintf("%.1f", mib(p.Free))
		}
		fmt.Fprintf(&b, "%-2d %-12s %-5s %9.0f %9.0f %9s %9s  %s\n", p.Number, p.Label, or(p.FileSystem, "-"),
			mib(p.Start), mib(p.Size), used, free, p.GUID)
		if p.FileSystem != "" && !p.Clean {
			fmt.Fprintf(&b, "   %s was not unmounted cleanly\n", p.Label)
		}
	}
	for _, s := range r.Slots {
		s.print(&b)
	}
	return b.String()
}

func (s Slot) print(b *strings.Builder) {
	switch {
	case s.Empty:
		fmt.Fprintf(b, "\nslot %s: empty\n", s.Name)
		return
	case s.Manifest == nil:
		fmt.Fprintf(b, "\nslot %s: %s\n", s.Name, s.Fault)
		return
	}
	m := s.Manifest
	fmt.Fprintf(b, "\nslot %s: resinOS %s for %s, %s, kernel %s\n", s.Name, m.Version, m.Board, m.Variant, m.Kernel)
	for _, f := range m.Files {
		fmt.Fprintf(b, "   %-18s %8.1f MiB  sha256 %s\n", f.Name, mib(f.Size), f.SHA256)
	}
	for _, p := range m.Packages {
		fmt.Fprintf(b, "   from %s %s\n", p.Name, p.Version)
	}
}

func mib(n int64) float64 { return float64(n) / float64(disk.MiB) }

func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
