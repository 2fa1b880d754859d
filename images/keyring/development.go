package keyring

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"resinos/bsp/bundle/trust"
)

// developmentName is the name of the key of a developer's images.
const developmentName = "development"

// DevelopmentDir returns where the key of a developer is: in the directory of their settings, or below the cache if
// they have none, as on many build servers.
func DevelopmentDir(cache string) string {
	if dir, err := os.UserConfigDir(); err == nil {
		return filepath.Join(dir, "resinos", "development-keys")
	}
	return filepath.Join(cache, "development-keys")
}

// Development returns the ring of a developer's images. The first call creates it; two at the same time get the same.
func Development(dir string) (Ring, error) {
	r, err := Open(dir)
	if err != nil || len(r.Trust.Public) > 0 {
		return r, err
	}
	if created, err := r.Create(developmentName); err == nil {
		return created, created.Save()
	} else if !errors.Is(err, fs.ErrExist) {
		return r, err
	}
	private, err := Read(r.private(developmentName)) // another build was faster, or was cut before Save
	if err != nil {
		return r, err
	}
	if r.Trust, err = Public([]string{private}); err != nil {
		return r, err
	}
	return r, r.Save()
}

// Trust returns the keys that an image of a variant trusts: those of the trust file in dir, if dir is named; the
// developer's for a development image; none for others, which then refuse every update.
func Trust(dir, variant, cache string) (trust.Keys, error) {
	if dir != "" {
		return trust.Load(dir)
	}
	if variant != "development" {
		return trust.Keys{}, nil
	}
	r, err := Development(DevelopmentDir(cache))
	return r.Trust, err
}
