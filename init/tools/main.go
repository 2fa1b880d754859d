// Command tools is the program of all tools that a device rarely runs; the name by which it is called selects one. They
// are one program because they share most of their libraries: the root has it as one packed file (mounts/packed), and a
// program for each would take 1.6 times the space. With the build tag sshd it is the ssh server alone, for images in
// which people work all day: the initialisation of the other tools takes 2 MB in each process. It decides nothing. Read
// programs first.
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

func main() {
	runtime.MemProfileRate = 0 // the tables of the profile would cost more than a megabyte
	run, known := programs[filepath.Base(os.Args[0])]
	if !known {
		names := strings.Join(slices.Sorted(maps.Keys(programs)), ", ")
		fmt.Fprintf(os.Stderr, "tools: %q is no tool; call it by one of these names: %s\n", os.Args[0], names)
		os.Exit(2)
	}
	os.Exit(run(os.Args[1:]))
}
