package boot

import (
	"hash/fnv"
	"os"
	"slices"
	"strings"
	"sync"

	"resinos/init/cmdline"
	"resinos/mounts/plainfile"
	"resinos/services/config"
	"resinos/services/osrelease"
	"resinos/services/spec"
)

// facts is what the conditions of services are judged by.
type facts struct {
	config  map[string]string // keys of config.json, nested ones with dots
	cmdline []string          // words of the kernel's command line
	board   string
}

// judge knows the facts since the boot read them, or since the service files were last read. Several conditions are judged
// at a time, beside the supervisor's loop: each look may wait for a disk.
type judge struct {
	mu    sync.Mutex // guards known
	known *facts
}

// learn reads the facts anew.
func (j *judge) learn() *facts { return j.take(config.Load(config.Path)) }

// take makes facts of what was loaded.
func (j *judge) take(l config.Loaded) *facts {
	f := &facts{config: l.Usable().Facts(), board: osrelease.Value("RESIN_BOARD")}
	if text, err := os.ReadFile("/proc/cmdline"); err == nil {
		f.cmdline = cmdline.Words(string(text))
	}
	j.mu.Lock()
	j.known = f
	j.mu.Unlock()
	return f
}

// holds judges one condition; why says what does not hold.
func (j *judge) holds(c spec.Condition) (holds bool, why string) {
	j.mu.Lock()
	f := j.known
	j.mu.Unlock()
	if f == nil && c.Kind != spec.PathCondition {
		f = j.learn()
	}
	if f.is(c) == c.Not {
		return false, c.String() + " does not hold"
	}
	return true, ""
}

// is reports whether what the condition names is so, whatever its Not says. A nil facts knows paths.
func (f *facts) is(c spec.Condition) bool {
	switch c.Kind {
	case spec.PathCondition:
		_, err := os.Stat(c.Value)
		return err == nil
	case spec.ConfigCondition:
		key, want, valued := strings.Cut(c.Value, "=")
		value, there := f.config[key]
		return there && (!valued || value == want)
	case spec.CmdlineCondition:
		return slices.Contains(f.cmdline, c.Value)
	case spec.BoardCondition:
		return f.board == c.Value
	}
	return false
}

// seed makes what shall differ from device to device: random delays of timers.
func seed() uint32 {
	text, err := plainfile.Read(machineID, maxMachineID)
	if err != nil {
		return 0 // then the delays are the same as everybody's
	}
	h := fnv.New32a()
	h.Write(text)
	return h.Sum32()
}
