package bootvars

import "resinos/bsp/slot"

// UpdateWord is on the command line of a boot in which the device has to look how an update stands: a slot is on trial,
// a trial is over, or the bootloader did not boot the slot of the variables.
const UpdateWord = "resinos.update"

// TrialWord is on the command line of a boot of the slot on trial: PID 1 ends the boot if nobody decides in time.
const TrialWord = "resinos.trial"

// Firmware is what a boot script meets on the device: whether the variables can be written, and from which slots a
// kernel and an initramfs can be loaded.
type Firmware struct {
	Writes bool
	Loads  map[slot.Name]bool
}

// Booted is what a boot script does.
type Booted struct {
	Slot   slot.Name // "" if no slot could be booted
	Update bool      // UpdateWord is on the command line
	Trial  bool      // TrialWord is on the command line
	After  Variables // as they are on the disk when the kernel starts
}

// Boot is the model of both boot scripts (images/bootscript, which compares them with it).
//
//	try = other slot, tries > 0 --count down on the disk--> boot try --loads nothing--> tries = 0, fault = kernel
//	else, or if it cannot be counted down, or was loaded in vain                   ---> boot slot, else the other one
func (v Variables) Boot(f Firmware) Booted {
	b := Booted{After: v, Update: v.Try.Valid()}
	if v.Try == v.Slot.Other() && v.Tries != NoTries && f.Writes {
		b.After.Tries = map[string]string{MostTries: "2", "2": "1", "1": NoTries}[v.Tries]
		if f.Loads[v.Try] {
			b.Slot, b.Trial = v.Try, true
			return b
		}
		b.After.Tries, b.After.Fault = NoTries, KernelFault
	}
	for _, name := range []slot.Name{v.Slot, v.Slot.Other()} {
		if f.Loads[name] {
			b.Slot, b.Update = name, b.Update || name != v.Slot
			return b
		}
	}
	return b
}
