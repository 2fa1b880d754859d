package volume

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"resinos/containers/app"
	"resinos/mounts/atomicfile"
)

// contents begins the name of the directory with the configs and secrets that stand in the compose file itself.
const contents = ".files"

// File returns the path of a config or a secret. One that stands in the compose file itself is written first, under the
// digest of what it is.
func (v Volumes) File(c app.Container, f app.File) (string, error) {
	if f.Source != "" {
		return v.Bind(c, app.Mount{Source: f.Source, Target: f.Target, ReadOnly: true})
	}
	mode := os.FileMode(f.Mode)
	if mode == 0 {
		mode = 0o444
	}
	digest := sha256.Sum256(fmt.Appendf(nil, "%d %d %o %s", f.UID, f.GID, mode, f.Content))
	dir := filepath.Join(v.Dir, c.App, contents)
	path := filepath.Join(dir, hex.EncodeToString(digest[:]))
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", fmt.Errorf("write %s: %w", f.Target, err)
	}
	temporary := path + ".new"
	err := atomicfile.Write(temporary, []byte(f.Content), mode)
	if err == nil {
		err = os.Chown(temporary, int(f.UID), int(f.GID))
	}
	if err == nil { // after the change of owner, which takes set-user-id bits away
		err = os.Chmod(temporary, mode)
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err == nil {
		err = atomicfile.Disk{}.SyncDir(dir)
	}
	if err != nil {
		return "", fmt.Errorf("write %s: %w", f.Target, err)
	}
	return path, nil
}
