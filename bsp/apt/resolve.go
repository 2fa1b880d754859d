package apt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"resinos/bsp/boards"
	"resinos/bsp/lock"
	"resinos/mounts/disk"
)

// Resolve asks the archive which versions of names it has now, and pins them. kernel must be among names. If it is a
// metapackage, the kernel package that it depends on replaces it, and its name is returned.
func Resolve(ctx context.Context, cfg Config, kernel string, names []string) (pins []lock.Package, realKernel string,
	err error) {
	a, err := open(ctx, cfg)
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	if err := a.update(ctx); err != nil {
		return nil, "", err
	}
	served, err := a.show(ctx, names)
	if err != nil {
		return nil, "", err
	}
	meta, found := served[kernel]
	if !found {
		return nil, "", fmt.Errorf("resolve kernel: package %s is not served for %s %s", kernel, cfg.Suite, cfg.Arch)
	}
	realKernel = kernelOf(kernel, meta["Depends"])
	if realKernel != kernel {
		names = append(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == kernel }), realKernel)
		if served, err = a.show(ctx, names); err != nil {
			return nil, "", err
		}
	}
	pins, err = pinAll(names, served, cfg)
	return pins, realKernel, err
}

// kernelOf returns the package that a kernel metapackage depends on: "linux-image-6.12-amd64 (= 6.12-1)".
func kernelOf(name, depends string) string {
	for _, d := range strings.Split(depends, ",") {
		candidate, condition, _ := strings.Cut(strings.TrimSpace(d), " ")
		if strings.HasPrefix(candidate, "linux-image-") && strings.HasPrefix(condition, "(=") {
			return candidate
		}
	}
	return name
}

func pinAll(names []string, served map[string]map[string]string, cfg Config) ([]lock.Package, error) {
	var pins []lock.Package
	var faults []error
	for _, name := range names {
		s, found := served[name]
		if !found {
			faults = append(faults, fmt.Errorf("package %s is not served for %s %s", name, cfg.Suite, cfg.Arch))
			continue
		}
		size, err := strconv.ParseInt(s["Size"], 10, 64)
		if err != nil {
			faults = append(faults, fmt.Errorf("package %s: size %q: %w", name, s["Size"], err))
		}
		pins = append(pins, lock.Package{
			Name: name, Version: s["Version"], Architecture: s["Architecture"], SHA256: s["SHA256"],
			Size: disk.Bytes(size),
		})
	}
	slices.SortFunc(pins, func(a, b lock.Package) int { return strings.Compare(a.Name, b.Name) })
	return pins, errors.Join(faults...)
}

// show reads the newest stanza of each name that the archive has; other names are missing from the map.
func (a *archive) show(ctx context.Context, names []string) (map[string]map[string]string, error) {
	out, err := a.run(ctx, a.state, "apt-cache", append([]string{"show", "--no-all-versions"}, names...)...)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	served := map[string]map[string]string{}
	for _, s := range parseStanzas(out) {
		served[s["Package"]] = s
	}
	if len(served) == 0 && err != nil { // if the archive has some of the names, the map shows which are missing
		return nil, err
	}
	return served, nil
}

// digests maps packages to the SHA-256 that the archive's signed lists have for exactly these versions. Packages that
// the archive does not have are missing.
func (a *archive) digests(ctx context.Context, packages []lock.Package) (map[string]string, error) {
	args, wanted := []string{"show"}, map[string]string{}
	for _, p := range packages {
		args = append(args, p.Name)
		wanted[p.Name] = p.Version
	}
	out, err := a.run(ctx, a.state, "apt-cache", args...)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	_ = err // apt-cache fails if a name is unknown: that is an answer, not an error
	served := map[string]string{}
	for _, s := range parseStanzas(out) {
		if v, asked := wanted[s["Package"]]; asked && v == s["Version"] {
			served[s["Package"]] = s["SHA256"]
		}
	}
	return served, nil
}

// For returns the configuration for a board; the caller adds mirrors and progress.
func For(b boards.Board, cache string) Config {
	return Config{Board: b.Name, Cache: cache, Arch: b.DebianArch, Suite: b.Suite, Components: b.Components}
}

// Pin creates a new lock for a board from what the archive has now.
func Pin(ctx context.Context, cfg Config, b boards.Board) (lock.Lock, error) {
	pins, kernel, err := Resolve(ctx, cfg, b.Kernel.Package, b.Packages())
	if err != nil {
		return lock.Lock{}, fmt.Errorf("pin packages of %s: %w", b.Name, err)
	}
	return lock.Lock{Board: b.Name, Suite: b.Suite, Kernel: kernel, Packages: pins}, nil
}
