// Package inside makes the command that runs a program inside a running container: with the OCI runtime itself, without
// the engine. The process that executes the command has the program's streams and its exit status, and needs neither
// the engine nor the manager for them. It decides nothing about containers. Read Runtime first.
package inside

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Runtime is the OCI runtime.
type Runtime struct {
	Path string
	Root string // directory of the state of our containers
}

// ProcessFD is the descriptor that the runtime reads the description of the program from.
const ProcessFD = 3

// Wish is the program that is wanted.
type Wish struct {
	Args          []string
	Env           []string // replaces variables of the container
	Dir           string   // empty: the container's
	User          *specs.User
	TTY           bool
	Rows, Columns uint
}

// Process is the description of a program that has the rights of the container's own and no more: its user,
// capabilities, limits, and no new privileges.
func Process(container specs.Process, w Wish) specs.Process {
	p := container
	p.Args = w.Args
	p.Terminal, p.ConsoleSize = w.TTY, nil
	if w.TTY && w.Rows > 0 && w.Columns > 0 {
		p.ConsoleSize = &specs.Box{Height: w.Rows, Width: w.Columns}
	}
	p.Env = join(container.Env, w.Env)
	if w.TTY && !slices.ContainsFunc(p.Env, func(v string) bool { return strings.HasPrefix(v, "TERM=") }) {
		p.Env = append(p.Env, "TERM=xterm")
	}
	if w.Dir != "" {
		p.Cwd = w.Dir
	}
	if w.User != nil {
		p.User = *w.User
		if p.User.UID != 0 && container.User.UID == 0 && p.Capabilities != nil {
			p.Capabilities = bounded(*p.Capabilities)
		}
	}
	return p
}

// bounded keeps of root's capabilities what a program of another user may still get, which without new privileges
// is nothing: no set but the bound.
func bounded(c specs.LinuxCapabilities) *specs.LinuxCapabilities {
	return &specs.LinuxCapabilities{Bounding: c.Bounding}
}

// join lets later variables replace earlier ones, in place.
func join(env, more []string) []string {
	out := slices.Clone(env)
	for _, v := range more {
		name, _, _ := strings.Cut(v, "=")
		at := slices.IndexFunc(out, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		if at >= 0 {
			out[at] = v
		} else {
			out = append(out, v)
		}
	}
	return out
}

// Command is the command line, after the runtime's name, that runs a process in a container, and what has to be
// readable from descriptor ProcessFD. Flags may be put before the last argument.
func (r Runtime) Command(id string, p specs.Process) (args []string, process []byte, err error) {
	process, err = json.Marshal(p)
	if err != nil {
		return nil, nil, fmt.Errorf("describe program for %s: %w", id, err)
	}
	return []string{"--root", r.Root, "exec", "--process", fmt.Sprintf("/proc/self/fd/%d", ProcessFD), id}, process, nil
}
