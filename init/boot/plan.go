package boot

import (
	"resinos/init/cmdline"
	"resinos/init/limits"
	"resinos/mounts/attach"
	"resinos/mounts/disk"
	"resinos/mounts/persist"
	"resinos/services/bootreport"
	"resinos/services/settings"
	"resinos/services/sysctl"
)

// Inputs is everything that decides how the real root boots.
type Inputs struct {
	Variant    string
	Cmdline    cmdline.Line
	Config     settings.Settings // of config.json
	Pseudo     []attach.Entry
	Binds      []persist.Bind
	Sysctls    []sysctl.Setting
	Shares     []limits.Step // how much containers may use of what they share with the system: tasks, memory and so on
	Partitions []disk.Partition
	Disk       string   // kernel name of the disk with the slot; empty if it is not known
	Services   []string // names, in order of loading
}

// Plan returns what a boot with these inputs does, without doing it. It is pure; the boot carries out the same deeds.
func Plan(in Inputs) []bootreport.PlannedStep {
	table := steps()
	planned := make([]bootreport.PlannedStep, len(table))
	for i, s := range table {
		planned[i] = bootreport.PlannedStep{Name: s.name, Severity: s.severity, Does: []string{}}
		for _, d := range s.deeds(in) {
			planned[i].Does = append(planned[i].Does, d.does...)
		}
	}
	return planned
}
