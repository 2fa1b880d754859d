// Command init is PID 1 on the root, and under another name one of the small daemons or the operator's command: it
// chooses by argv[0], or by its first argument (init APPLET). It owns the applet table, connects the packages that an
// applet needs, and never does their work itself. Read applets first.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"resinos/bsp/kmod"
	"resinos/init/life"
	"resinos/init/partition"
	"resinos/init/signals"
	"resinos/services/confine"
)

func main() {
	runtime.MemProfileRate = 0 // the profile's tables would cost every process more than a megabyte

	inContainer := filepath.Base(os.Args[0]) == "hold" // the first process of a container, not of the device
	if os.Getpid() == 1 && !inContainer {
		firstProcess()
	}
	os.Exit(run(os.Args))
}

// firstProcess does not return.
func firstProcess() {
	caught := signals.Catch()
	(&life.PID1{Modules: openModules, Drivers: loadDisplays, Display: display}).Run(caught)
}

func openModules() (partition.Loader, error) {
	loader, err := kmod.OpenRunning()
	if err != nil {
		return nil, err // not the nil pointer, which would be a non-nil interface
	}
	return loader, nil
}

// run finds the applet and returns the exit code: 0 done, 1 failed, 2 wrong usage.
func run(args []string) int {
	name := filepath.Base(args[0])
	if name == "init" {
		if len(args) < 2 {
			fmt.Fprintf(os.Stderr, "usage: init APPLET [argument...]\napplets: %s\n", strings.Join(names(), " "))
			return 2
		}
		name, args = args[1], args[1:]
	}
	if name != "launch" {
		if code := confine.Adopt(); code != 0 {
			return code
		}
	}
	a, found := applets()[name]
	if !found {
		fmt.Fprintf(os.Stderr, "init: no applet %q; there are: %s\n", name, strings.Join(names(), " "))
		return 2
	}
	return a(context.Background(), args[1:])
}

func names() []string {
	var all []string
	for name := range applets() {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
