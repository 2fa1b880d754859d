package apt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"resinos/bsp/lock"
	"resinos/mounts/disk"
)

// Fetch puts all packages into the cache and returns the file of each name. A file in the cache is always complete and
// has the digest of the lock: a damaged one is fetched again, and an interrupted download continues.
func Fetch(ctx context.Context, cfg Config, packages []lock.Package) (paths map[string]string, err error) {
	paths = make(map[string]string, len(packages))
	var missing []lock.Package
	for _, p := range packages {
		file := CachePath(cfg.Cache, p)
		paths[p.Name] = file
		switch err := verify(file, p); {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, p)
		case errors.As(err, new(wrongDigest)):
			if err := os.Remove(file); err != nil {
				return nil, fmt.Errorf("drop damaged package: %w", err)
			}
			missing = append(missing, p)
		default:
			return nil, fmt.Errorf("check package %s: %w", p.Name, err)
		}
	}
	if len(missing) == 0 {
		return paths, nil
	}
	a, err := open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	if err := a.fetchAll(ctx, missing); err != nil {
		return nil, err
	}
	return paths, nil
}

// CachePath is the path to which Fetch writes a package.
func CachePath(cache string, p lock.Package) string {
	return filepath.Join(cache, "debs", "sha256-"+p.SHA256+".deb")
}

type wrongDigest struct{ file, got, want string }

func (w wrongDigest) Error() string {
	return fmt.Sprintf("%s has sha256 %s, the lock wants %s", w.file, w.got, w.want)
}

func verify(file string, p lock.Package) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() // nothing was written
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != p.SHA256 {
		return wrongDigest{file, got, p.SHA256}
	}
	return nil
}

func (a *archive) fetchAll(ctx context.Context, missing []lock.Package) error {
	var total disk.Bytes
	for _, p := range missing {
		total += p.Size
	}
	if err := a.checkSpace(total); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(a.cfg.Cache, "debs"), 0o755); err != nil {
		return fmt.Errorf("create package cache: %w", err)
	}
	if err := a.checkServed(ctx, missing); err != nil {
		return err
	}
	err := a.download(ctx, missing)
	if err != nil && ctx.Err() == nil && !a.fresh { // the mirror may have newer lists than ours
		if uerr := a.update(ctx); uerr != nil {
			err = errors.Join(err, uerr)
		} else if err = a.checkServed(ctx, missing); err == nil {
			err = a.download(ctx, missing)
		}
	}
	complete := err == nil
	for _, p := range missing { // packages that did arrive are kept even if others failed
		err = errors.Join(err, a.keep(p, complete))
	}
	return err
}

func (a *archive) checkSpace(need disk.Bytes) error {
	var st unix.Statfs_t
	if err := unix.Statfs(a.state, &st); err != nil {
		return fmt.Errorf("measure free space of %s: %w", a.cfg.Cache, err)
	}
	free := disk.Bytes(st.Bavail) * disk.Bytes(st.Bsize)
	if free < need {
		return fmt.Errorf("fetch packages: %s has %d MiB free, %d MiB are needed: free some space or name another "+
			"directory with --cache",
			a.cfg.Cache, free/disk.MiB, (need+disk.MiB-1)/disk.MiB)
	}
	return nil
}

// checkServed makes sure that the archive has the pinned files. It updates the lists only if those of an earlier run
// lack a pin.
func (a *archive) checkServed(ctx context.Context, packages []lock.Package) error {
	for {
		served, err := a.digests(ctx, packages)
		if err != nil {
			return err
		}
		if err = a.compare(packages, served); err == nil || a.fresh {
			return err
		}
		if err := a.update(ctx); err != nil {
			return err
		}
	}
}

func (a *archive) compare(packages []lock.Package, served map[string]string) error {
	var faults []error
	for _, p := range packages {
		switch digest := served[p.Name]; digest {
		case p.SHA256:
		case "":
			faults = append(faults, fmt.Errorf("fetch %s %s: the mirror no longer serves this version", p.Name,
				p.Version))
		default:
			faults = append(faults, fmt.Errorf("fetch %s %s: the mirror serves sha256 %s, %s wants %s",
				p.Name, p.Version, digest, lock.File(a.cfg.Board), p.SHA256))
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w%s", errors.Join(faults...), lock.Hint(a.cfg.Board))
}

// download runs one apt-get for all packages. apt verifies each against the signed list, and continues partial files.
func (a *archive) download(ctx context.Context, packages []lock.Package) error {
	args := []string{"download"}
	for _, p := range packages {
		args = append(args, p.Name+"="+p.Version)
	}
	stop := a.watch(packages)
	_, err := a.run(ctx, filepath.Join(a.state, "download"), "apt-get", args...)
	stop()
	if err != nil {
		return fmt.Errorf("fetch packages: %w\nfinished downloads are kept: run the command again to continue", err)
	}
	return nil
}

// keep moves a downloaded file into the cache if it is what the lock wants. Partial files stay for the next run, unless
// the download reports that it is complete.
func (a *archive) keep(p lock.Package, complete bool) error {
	file := a.arriving(p)
	err := verify(file, p)
	if err == nil {
		if err := os.Rename(file, CachePath(a.cfg.Cache, p)); err != nil {
			return fmt.Errorf("keep package %s: %w", p.Name, err)
		}
		return nil
	}
	if !complete {
		return nil
	}
	err = fmt.Errorf("fetch %s %s: %w%s", p.Name, p.Version, err, lock.Hint(a.cfg.Board))
	return errors.Join(err, os.RemoveAll(file))
}

// arriving is the path to which apt-get writes a package: its own file name, with %3a for a colon in the version.
func (a *archive) arriving(p lock.Package) string {
	name := fmt.Sprintf("%s_%s_%s.deb", p.Name, strings.ReplaceAll(p.Version, ":", "%3a"), p.Architecture)
	return filepath.Join(a.state, "download", name)
}

// watch reports the growth of the files until the function it returns is called.
func (a *archive) watch(packages []lock.Package) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{}) // quit is closed by stop, done by the goroutine
	go func() {
		defer close(done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		last := map[string]int64{}
		for stopping := false; ; {
			for _, p := range packages {
				if size := sizeOf(a.arriving(p)); size != last[p.Name] {
					last[p.Name] = size
					a.report(Progress{What: p.Name, Done: size, Total: int64(p.Size)})
				}
			}
			if stopping {
				return
			}
			select {
			case <-quit:
				stopping = true // look once more: the last file may have been completed just now
			case <-tick.C:
			}
		}
	}()
	return func() { close(quit); <-done }
}

func sizeOf(file string) int64 {
	st, err := os.Stat(file)
	if err != nil {
		return 0 // not begun
	}
	return st.Size()
}
