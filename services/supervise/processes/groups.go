// Package processes acts on all processes of a service together: it limits, signals, kills and sweeps them. Each
// service has a cgroup; without cgroups its processes are those in the process group and session of its main process.
// It starts nothing and decides nothing. Read Groups first.
package processes

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"resinos/services/cgroup"
	"resinos/services/proc"
	"resinos/services/spec"
)

// Groups are the processes of all services. Only Join, Owner and Session may be called outside the supervisor's loop.
type Groups struct {
	Sweeps Sweeps

	tree   *cgroup.Tree // nil without cgroups
	log    *slog.Logger
	booted bool // services have their standing share of the processor
}

// New returns the Groups in tree; nil is no cgroups.
func New(tree *cgroup.Tree, log *slog.Logger) *Groups { return &Groups{tree: tree, log: log} }

// Cgroups reports whether there are cgroups.
func (g *Groups) Cgroups() bool { return g.tree != nil }

// Create gives c the new cgroup in which the main process of sp is started, with the limits of the service. The caller
// closes c.Cgroup, which is nil without cgroups.
func (g *Groups) Create(sp *spec.Spec, c *proc.Command) (err error) {
	if g.tree == nil {
		return nil
	}
	create := g.tree.Create
	if sp.KillMode == spec.Process {
		create = g.tree.Join // processes of the earlier life live on in it
	}
	if c.Cgroup, err = create(leaf(sp)); err != nil {
		return err
	}
	if sp.Limits == (spec.Limits{}) && sp.KillMode != spec.Process && !sp.CgroupDelegate {
		return nil // the kernel creates cgroups without limits
	}
	g.Limit(sp)
	return nil
}

// Join is Create for one more process of sp, which joins those that are there.
func (g *Groups) Join(sp *spec.Spec, c *proc.Command) (err error) {
	if g.tree == nil {
		return nil
	}
	if c.Cgroup, err = g.tree.Join(leaf(sp)); err != nil {
		return fmt.Errorf("enter cgroup: %w", err)
	}
	return nil
}

// Booted ends the shares of the processor that hold during the boot. The caller calls Limit for what runs.
func (g *Groups) Booted() { g.booted = true }

// Limit gives the cgroup of a service its limits.
func (g *Groups) Limit(sp *spec.Spec) {
	if g.tree == nil {
		return
	}
	if err := g.tree.Limit(sp.Name, sp.Limits.While(!g.booted)); err != nil {
		g.log.Warn("service runs without its limits", "service", sp.Name, "error", err)
	}
}

// OOMKills counts the processes that the kernel has killed in the cgroup of a service because memory ran out.
func (g *Groups) OOMKills(service string) int {
	if g.tree == nil {
		return 0
	}
	u, err := g.tree.Usage(service)
	if err != nil {
		return 0 // without a cgroup nothing was killed
	}
	return u.OOMKills
}

// Owner returns the service in whose cgroup a process is; empty if it is in none, or without cgroups.
func (g *Groups) Owner(pid int) string {
	if g.tree == nil {
		return ""
	}
	return g.tree.Owner(pid)
}

// Session returns the session of a process, by which it is known without cgroups.
func (g *Groups) Session(pid int) int {
	if g.tree != nil {
		return 0
	}
	return proc.Session(pid)
}

// Signal sends sig to all processes of a service. main is its latest main process, nil before the first.
func (g *Groups) Signal(sp *spec.Spec, main *proc.Process, sig unix.Signal) error {
	switch {
	case g.tree != nil:
		return g.tree.Signal(sp.Name, sig)
	case main != nil:
		return main.SignalGroup(sig)
	}
	return os.ErrProcessDone
}

// Kill kills all processes of a service at its stop, but for those that its kill mode spares.
func (g *Groups) Kill(sp *spec.Spec, main *proc.Process) error {
	switch {
	case sp.KillMode == spec.Process:
	case g.tree != nil:
		return g.tree.Kill(sp.Name)
	case main != nil:
		return main.SignalGroup(unix.SIGKILL)
	}
	return nil
}

// KillAll kills the processes of all services.
func (g *Groups) KillAll() error {
	if g.tree == nil {
		return nil
	}
	return g.tree.KillAll()
}

// Sweep kills what the main process of a service left behind when it ended, and reports whether nothing is left. Where
// something is, it adds the service to Sweeps as id, and the caller calls it again.
func (g *Groups) Sweep(service string, id int, main *proc.Process) (empty bool) {
	if g.tree == nil {
		if main != nil {
			main.KillLeftovers()
		}
		return true
	}
	populated, err := g.tree.Populated(service)
	if err == nil && populated {
		if !g.Sweeps.add(id, time.Now()) {
			return false // they were killed before and are about to end
		}
		g.log.Info("service left processes", "service", service)
		err = g.tree.Kill(service)
	}
	if err != nil {
		g.log.Error("service not swept", "service", service, "error", err)
		return true
	}
	return !populated
}

// Remove removes the empty cgroup of a service. One that is delegated belongs to the service, which has created others
// below it.
func (g *Groups) Remove(sp *spec.Spec) {
	if g.tree != nil && !sp.CgroupDelegate {
		_ = g.tree.Remove(sp.Name) // if it stays, the next start uses it
	}
}

// leaf names the cgroup in which the processes of a service are started. A delegated service gets a leaf of its own in
// its cgroup: cgroup v2 lets a cgroup with controllers for its children hold no process, so the engine could neither
// create limited cgroups below its own nor be started again beside them.
func leaf(sp *spec.Spec) string {
	if sp.CgroupDelegate {
		return sp.Name + "/main"
	}
	return sp.Name
}
