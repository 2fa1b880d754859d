package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"resinos/bsp/kmod"
)

// modulesDir is the folder of the running kernel's modules.
func modulesDir() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("find kernel release: %w", err)
	}
	return "/usr/lib/modules/" + unix.ByteSliceToString(name.Release[:]), nil
}

// openLoader reads the index of the running kernel's modules.
func openLoader() (*kmod.Loader, error) {
	dir, err := modulesDir()
	if err != nil {
		return nil, err
	}
	index, err := kmod.Open(dir)
	if err != nil {
		return nil, err
	}
	return kmod.NewLoader(index), nil
}

// openModules is openLoader for callers that know the loader by an interface of their own.
func openModules[L any]() (L, error) {
	var none L
	loader, err := openLoader()
	if err != nil {
		return none, err
	}
	return any(loader).(L), nil
}
