package assemble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Tool is a host program that a writer of this package calls.
type Tool struct {
	Command string
	Package string // the Debian package that contains it
}

// Tools lists every host program that a build needs.
func Tools() []Tool {
	return []Tool{
		{"debugfs", "e2fsprogs"}, {"e2fsck", "e2fsprogs"}, {"mke2fs", "e2fsprogs"},
		{"mkfs.vfat", "dosfstools"}, {"mcopy", "mtools"}, {"mmd", "mtools"},
		{"mksquashfs", "squashfs-tools"}, {"xz", "xz-utils"},
	}
}

// CheckTools fails if a host program is missing, and names the apt-get command that installs it.
func CheckTools() error {
	var missing, packages []string
	for _, t := range Tools() {
		if _, err := FindTool(t.Command); err == nil {
			continue
		}
		missing = append(missing, t.Command)
		if !slices.Contains(packages, t.Package) {
			packages = append(packages, t.Package)
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("find host programs %s: not installed; try: apt-get install %s",
		strings.Join(missing, ", "), strings.Join(packages, " "))
}

// FindTool finds a program in PATH or in the sbin directories, which an ordinary user does not have in PATH.
func FindTool(command string) (string, error) {
	if p, err := exec.LookPath(command); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p := filepath.Join(dir, command); isExecutable(p) {
			return p, nil
		}
	}
	return "", fmt.Errorf("find %s: not installed", command)
}

func isExecutable(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// call is one run of a host program with a fixed environment, so that no setting of the user has an effect.
type call struct {
	command string
	args    []string
	epoch   int64
	env     []string // added to the fixed ones
	stdin   io.Reader
	stdout  io.Writer
}

// run waits for the program's end and returns its error output. The error contains its last lines.
func (c call) run(ctx context.Context) (string, error) {
	exe, err := FindTool(c.command)
	if err != nil {
		return "", err
	}
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, exe, c.args...)
	cmd.Env = append(fixedEnv(c.epoch), c.env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, c.stdout, &errs
	if c.stdin == nil {
		cmd.Stdin = bytes.NewReader(nil)
	}
	if err := cmd.Run(); err != nil {
		return errs.String(), fmt.Errorf("run %s: %w: %s", c.command, errors.Join(err, context.Cause(ctx)),
			lastLines(errs.String(), 3))
	}
	return errs.String(), nil
}

func fixedEnv(epoch int64) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "TZ=UTC", "LC_ALL=C", "MTOOLSRC=/dev/null", "MTOOLS_SKIP_CHECK=1",
		"E2FSPROGS_FAKE_TIME=" + strconv.FormatInt(epoch, 10), "E2FSCK_TIME=" + strconv.FormatInt(epoch, 10),
	}
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}
