package layout

import (
	"strings"
	"testing"

	"resinos/mounts/disk"
	"resinos/mounts/testenv"
)

func request() Request {
	return Request{
		File: "boards/some.toml",
		Partitions: []Wanted{
			{Boot, 40 * disk.MiB}, {RootA, 192 * disk.MiB}, {RootB, 192 * disk.MiB}, {State, 64 * disk.MiB},
			{Data, 256 * disk.MiB},
		},
		Contents: map[string]Content{
			Boot:  {Digest: "b", Need: 3 * disk.MiB, Largest: "BOOTX64.EFI"},
			RootA: {Digest: "a", Need: 100 * disk.MiB, Largest: "rootfs.squashfs (70 MiB)"},
		},
	}
}

func TestPlanGolden(t *testing.T) {
	p, err := New(request())
	if err != nil {
		t.Fatal(err)
	}
	testenv.Golden(t, "plan.golden", p.String())
}

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Request)
		want   []string
	}{
		"does not fit": {func(r *Request) {
			r.Contents[RootA] = Content{Need: 193 * disk.MiB, Largest: "rootfs.squashfs (150 MiB)"}
		}, []string{"boards/some.toml", RootA, "needs 193 MiB", "has 192 MiB", "rootfs.squashfs",
			"enlarge it in this file"}},
		"not aligned": {func(r *Request) { r.Partitions[3].Size = 63 * disk.MiB }, []string{"resin-state", "63 MiB",
			"multiple of 4 MiB"}},
		"zero": {func(r *Request) { r.Partitions[4].Size = 0 }, []string{"resin-data", "0 B"}},
		"wrong order": {func(r *Request) { r.Partitions[0].Label = Data },
			[]string{`partition 1 is "resin-data", want "resin-boot"`}},
		"too few": {func(r *Request) { r.Partitions = r.Partitions[:2] }, []string{"2 partitions"}},
		"slots differ": {func(r *Request) { r.Partitions[2].Size = 64 * disk.MiB },
			[]string{"both slots must have one size"}},
		"all faults named": {func(r *Request) { r.Partitions[3].Size = 1; r.Partitions[4].Size = 2 },
			[]string{"resin-state", "resin-data"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := request()
			c.change(&r)
			_, err := New(r)
			for _, w := range c.want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("New() error = %v, want %q in it", err, w)
				}
			}
		})
	}
}

func TestIdentifiersFollowContent(t *testing.T) {
	one, err := New(request())
	if err != nil {
		t.Fatal(err)
	}
	changed := request()
	changed.Contents[RootA] = Content{Digest: "other"}
	two, err := New(changed)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true, true, false, false} { // A has changed; B is empty and follows the disk
		if got := one.Partitions[i].GUID != two.Partitions[i].GUID; got != want {
			t.Errorf("GUID of %s changed = %v, want %v", one.Partitions[i].Label, got, want)
		}
	}
	if one.GUID == two.GUID {
		t.Error("GUID of the disk stayed although a content changed")
	}
}

func TestPartitionsDoNotOverlap(t *testing.T) {
	p, err := New(request())
	if err != nil {
		t.Fatal(err)
	}
	end := Alignment
	for _, part := range p.Partitions {
		if part.Start != end || part.Start%Alignment != 0 {
			t.Errorf("%s starts at %s, want %s", part.Label, part.Start, end)
		}
		end = part.Start + part.Size
	}
	if p.Size < end+disk.MiB {
		t.Errorf("disk ends at %s, no room for the second partition table behind %s", p.Size, end)
	}
}
