package identity

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// world is the two disks of a device. The power fails at the call number cut, counted from 0; half of what that call
// writes is there.
type world struct {
	machine, uuid         string // what the disks hold
	stateGone, bootBroken bool
	cut, calls            int
	shown                 string
	made                  int
}

var errDead = errors.New("power cut")

func (w *world) write(into *string, text string) error {
	w.calls++
	switch {
	case w.calls-1 == w.cut:
		*into = text[:len(text)/2]
		return errDead
	case w.calls-1 > w.cut:
		return errDead
	}
	*into = text
	return nil
}

// boot settles the identity. It is published only if the power lasts.
func (w *world) boot() (id Identity, err error, published bool) {
	w.calls, w.shown = 0, ""
	var ram string
	d := Device{Known: w.uuid, Kept: w.machine, Lasts: !w.stateGone,
		SaveMachine: func(id string) error { return w.write(&w.machine, id+"\n") },
		SaveUUID: func(id string) error {
			if w.bootBroken {
				return errors.New("read-only file system")
			}
			whole := ""
			if err := w.write(&whole, id); err != nil {
				return err // config.json is replaced whole or not at all
			}
			w.uuid = whole
			return nil
		},
		StandIn: func(id string) error { w.shown = id; return w.write(&ram, id) },
		Random: func() (string, error) {
			w.made++
			return fmt.Sprintf("%032x", w.made), nil
		},
	}
	if w.stateGone {
		d.Kept = ""
	}
	id, err = d.Settle()
	return id, err, w.calls <= w.cut
}

// TestStableAcrossCuts: whatever is published stays, wherever the power is cut in the boots before and after.
func TestStableAcrossCuts(t *testing.T) {
	for _, known := range []string{"", strings.Repeat("a", 32)} {
		for _, stateGone := range []bool{false, true} {
			for first := range 4 {
				for second := range 4 {
					w := &world{uuid: known, stateGone: stateGone}
					var published Identity
					for boot, cut := range []int{first, second, 100, 100} {
						w.cut = cut
						id, _, told := w.boot()
						if !told {
							continue
						}
						if published != (Identity{}) && id != published {
							t.Errorf("uuid %q, state gone %v, cuts at %d and %d: boot %d is %+v, was %+v", known,
								stateGone, first, second, boot, id, published)
						}
						published = id
					}
					if len(published.UUID) != 32 || Valid(published.Machine) == "" ||
						published.UUID == published.Machine {
						t.Errorf("identity %+v", published)
					}
				}
			}
		}
	}
}

func TestWhereItIsKept(t *testing.T) {
	w := &world{cut: 100}
	id, err, _ := w.boot()
	if err != nil || w.machine != id.Machine+"\n" || w.uuid != "" || id.UUID != Derive("uuid", id.Machine) {
		t.Errorf("first boot: %+v, %v in %+v", id, err, w)
	}
	w.bootBroken = true
	if again, err, _ := w.boot(); again != id || err != nil {
		t.Errorf("without resin-boot it is %+v, %v, was %+v", again, err, id)
	}
	w = &world{cut: 100, uuid: id.UUID, machine: "0000\n"} // half of a machine id
	if next, err, _ := w.boot(); err != nil || next.UUID != id.UUID || next.Machine == Derive("machine-id", id.UUID) {
		t.Errorf("half a machine id: %+v, %v; it must be a random one", next, err)
	}
	w = &world{cut: 100, stateGone: true, bootBroken: true}
	if id, err, _ := w.boot(); err == nil || !strings.Contains(err.Error(), "until the next boot") || id.UUID == "" ||
		w.shown != id.Machine {
		t.Errorf("without both: %+v, %v, shown %q", id, err, w.shown)
	}
}

func TestNoRandom(t *testing.T) {
	d := Device{Random: func() (string, error) { return "", errors.New("no such file") }}
	if id, err := d.Settle(); err == nil || id != (Identity{}) {
		t.Errorf("without randomness: %+v, %v", id, err)
	}
}

func TestValid(t *testing.T) {
	good := "0123456789abcdef0123456789abcdef"
	for content, want := range map[string]string{
		good: good, good + "\n": good, "": "", "uninitialized\n": "", good[:31] + "\n": "", good + "0": "",
		strings.ToUpper(good):          "",
		strings.Repeat("0", 32) + "\n": "", strings.Repeat("\x00", 33): "", good[:16] + "\n" + good[:15]: "",
	} {
		if got := Valid(content); got != want {
			t.Errorf("Valid(%q) = %q, want %q", content, got, want)
		}
	}
}
