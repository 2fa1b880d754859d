// Package appfilestest loads the apps of tests without the program that does so on the device.
package appfilestest

import (
	"context"
	"errors"
	"os"
	"strings"

	"resinos/containers/app"
	"resinos/containers/composefile"
	"resinos/containers/load"
)

// InProcess loads apps in this process, with the same rules for their files.
type InProcess struct{}

// Load is that of appfiles.Loader.
func (InProcess) Load(ctx context.Context, name, dir string) (load.Result, error) {
	scratch, err := os.MkdirTemp("", "inside-")
	if err != nil {
		return load.Result{}, err
	}
	defer os.RemoveAll(scratch)
	var busy error
	a, warnings, err := composefile.Load(ctx, name, scratch, func(file string) ([]byte, error) {
		data, err := load.ReadFile(dir, file)
		if errors.Is(err, load.ErrBusy) {
			busy = err
		}
		return data, err
	})
	if busy != nil {
		return load.Result{}, busy
	}
	r := load.Result{App: a, Warnings: warnings}
	_ = errors.As(err, &r.Faults) // that is what it is
	for _, list := range []app.Faults{r.Faults, r.Warnings} {
		for i := range list {
			list[i].File = strings.Replace(list[i].File, scratch, dir, 1)
		}
	}
	return r, nil
}

// Forget has nothing to forget.
func (InProcess) Forget(func(string) bool) error { return nil }
