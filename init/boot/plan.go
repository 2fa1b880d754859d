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
	Shares     []limits.Step // what containers get of the counts that they share with the system
	Partitions []disk.Partition
	Disk       string   // kernel name of the disk that carries the slot; empty when unknown
	Services   []string // names, in order of loading
}

// Plan says what a boot with these inputs does, without doing it. It is pure; the real boot carries out the same deeds.
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
