package rootfs

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"resinos/images/assemble"
)

// TestClosed: each way in is found. That the roots of our variants have none is what Root itself checks, in each build.
func TestClosed(t *testing.T) {
	for _, c := range []struct {
		entry   assemble.Entry
		variant string
		want    string
	}{
		{assemble.Entry{Path: "usr/bin/su", Mode: 0o755 | fs.ModeSetuid}, "development", "set-user-ID"},
		{assemble.Entry{Path: "usr/bin/wall", Mode: 0o755 | fs.ModeSetgid}, "development", "set-group-ID"},
		{assemble.Entry{Path: "usr/bin/ping", Mode: 0o4755}, "development", "set-user-ID"},
		{assemble.Entry{Path: "etc/profile", Mode: 0o666}, "standalone", "only root may write"},
		{assemble.Entry{Path: "etc/cron", Mode: fs.ModeDir | 0o775}, "production", "only root may write"},
		{assemble.Entry{Path: "etc/shadow", Mode: 0o644}, "production", "it is secret"},
		{assemble.Entry{Path: "usr/bin/sh", Mode: fs.ModeSymlink | 0o777, Target: "busybox"}, "production", "no shell"},
		{assemble.Entry{Path: "usr/bin/sh", Mode: fs.ModeSymlink | 0o777, Target: "busybox"}, "development", ""},
		{assemble.Entry{Path: "usr/bin/osctl", Mode: 0o755}, "production", ""},
	} {
		tree := &assemble.Tree{}
		if err := tree.Add(c.entry); err != nil {
			t.Fatal(err)
		}
		err := errors.Join(closed(tree, c.variant)...)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %v in %s: %v, want %q", c.entry.Path, c.entry.Mode, c.variant, err, c.want)
		}
	}
}
