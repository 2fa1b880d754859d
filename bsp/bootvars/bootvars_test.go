package bootvars

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	"resinos/bsp/slot"
)

func TestRoundTrip(t *testing.T) {
	for _, b := range Bootloaders() {
		for _, want := range []Variables{
			New(),
			{Slot: slot.B, Try: NoTrial, Tries: NoTries, Fault: NoFault},
			{Slot: slot.B, Try: slot.A, Tries: MostTries, Fault: KernelFault},
			{Slot: slot.A, Try: NoTrial, Tries: NoTries, Fault: NoFault, Others: map[string]string{"trial": "2",
				"empty": ""}},
		} {
			file, err := b.Encode(want)
			if err != nil {
				t.Fatalf("%s: %v", b, err)
			}
			if got, err := b.Parse(file); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: read back %+v, %v, want %+v", b, got, err, want)
			}
			if head := min(len(file), 512); strings.Contains(string(file[head:]), "=") {
				t.Errorf("%s: an assignment lies beyond the first sector", b)
			}
		}
	}
}

// TestForm holds what the bootloaders demand: a device in the field has these sizes for good.
func TestForm(t *testing.T) {
	for b, want := range map[Bootloader]string{
		Grub:  "# GRUB Environment Block\nfault=none\nslot=B\ntries=0\ntry=none\n" + strings.Repeat("#", 1024-60),
		UBoot: "fault=none\nslot=B\ntries=0\ntry=none\n" + strings.Repeat("\x00", 504-35),
	} {
		if got, err := b.Encode(Variables{Slot: slot.B}); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", b, got, err, want)
		}
		if b.Size() != len(want) {
			t.Errorf("%s: size %d, want %d", b, b.Size(), len(want))
		}
	}
	if Grub.File() != "grubenv" || UBoot.File() != "resinos.env" || Bootloader("lilo").File() != "" {
		t.Error("a file has another name")
	}
}

func TestEncodeFaults(t *testing.T) {
	for _, b := range Bootloaders() {
		for _, others := range []map[string]string{{"a b": ""}, {"": "x"}, {"a": "x\ny"}, {"a": "x\\"},
			{"a": strings.Repeat("x", 600)}} {
			if _, err := b.Encode(Variables{Slot: slot.A, Others: others}); err == nil ||
				!strings.Contains(err.Error(), b.File()) {
				t.Errorf("%s: %v was written: %v", b, others, err)
			}
		}
		if _, err := b.Encode(Variables{Slot: "C"}); err == nil ||
			!strings.Contains(err.Error(), `slot = "C", want one of A, B`) {
			t.Errorf("%s: slot C: %v", b, err)
		}
	}
	if _, err := Bootloader("lilo").Encode(New()); err == nil || !strings.Contains(err.Error(), "lilo") {
		t.Errorf("an unknown bootloader: %v", err)
	}
	if _, err := Bootloader("lilo").Parse(nil); err == nil {
		t.Error("a file of an unknown bootloader was read")
	}
}

// TestParseFaults: whatever the file holds, the variables are what the bootloader takes, and the error tells what is
// wrong.
func TestParseFaults(t *testing.T) {
	pad := func(text string) string { return text + strings.Repeat("\x00", max(504-len(text), 0)) }
	grub := func(text string) string { return text + strings.Repeat("#", max(1024-len(text), 0)) }
	for _, test := range []struct {
		loader Bootloader
		file   string
		slot   slot.Name
		want   string // in the error
	}{
		{UBoot, "", slot.A, "0 bytes, want 504"},
		{UBoot, "slot=B\n\x00", slot.B, "8 bytes, want 504"},
		{UBoot, pad(""), slot.A, "slot is missing"},
		{UBoot, pad("slot=C\n"), slot.A, `slot = "C"`},
		{UBoot, pad("slot=b\nslot=B\n\x00slot=A\n"), slot.B, ""},
		{UBoot, pad("junk\n=x\n#slot=B\n"), slot.A, "slot is missing"},
		{Grub, grub("# GRUB Environment Block\nslot=B\n"), slot.B, ""},
		{Grub, grub("slot=B\n"), slot.A, "does not begin with"},
		{Grub, "", slot.A, "0 bytes, want 1024"},
		{Grub, grub("# GRUB Environment Block\nslot=\n"), slot.A, `slot = ""`},
		{Grub, grub("# GRUB Environment Block\nslot=B\ntry=C\n"), slot.B, `try = "C"`},
		{UBoot, pad("slot=B\ntries=4\nfault=x\n"), slot.B, `fault = "x"`},
	} {
		v, err := test.loader.Parse([]byte(test.file))
		if v.Slot != test.slot || (err != nil) != (test.want != "") ||
			err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Parse(%.40q) = %+v, %v; want slot %s and %q", test.loader, test.file, v, err, test.slot,
				test.want)
		}
	}
}

// TestTable wants each row to be whole: scripts and documents are made of it.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range Table() {
		var v Variables
		if row.Name == "" || row.Does == "" || len(row.Values) == 0 || seen[row.Name] || row.field(&v) == nil {
			t.Errorf("row %+v", row)
		}
		seen[row.Name] = true
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "slot=A\n\x00junk=1\n", "# GRUB Environment Block\nslot=B\n#####",
		"=\n==\nno equals\nslot=A"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		for _, b := range Bootloaders() {
			v, err := b.Parse(file)
			if !v.Slot.Valid() {
				t.Errorf("%s: slot %q", b, v.Slot)
			}
			for name := range v.Others {
				if name == "" || name == "slot" || strings.ContainsAny(name, "=\n\x00") {
					t.Errorf("%s: name %q", b, name)
				}
			}
			if err != nil {
				continue
			}
			again, err := b.Encode(v)
			if err != nil {
				continue // names that a bootloader reads and we do not write
			}
			if back, err := b.Parse(again); err != nil || back.Slot != v.Slot || !maps.Equal(back.Others, v.Others) {
				t.Errorf("%s: %+v came back as %+v, %v", b, v, back, err)
			}
		}
	})
}
