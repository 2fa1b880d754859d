// Command initramfs is /init of the initramfs: it runs stage 1 and executes the program init of the real root. It is a
// program of its own because the kernel unpacks and starts it in every boot, and init is three times as large.
package main

import (
	"runtime"

	"resinos/bsp/kmod"
	"resinos/init/signals"
	"resinos/init/stage1"
)

func main() {
	runtime.MemProfileRate = 0 // the profile's tables would cost a megabyte
	signals.Catch()            // and drop them: Ctrl-Alt-Del would end this process, which is a kernel panic
	(&stage1.Stage{OpenModules: openModules}).Run()
}

func openModules() (stage1.Loader, error) {
	loader, err := kmod.OpenRunning()
	if err != nil {
		return nil, err // not the nil pointer, which is no nil interface
	}
	return loader, nil
}
