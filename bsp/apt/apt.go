// Package apt fetches Debian packages of any architecture with the host's apt-get. apt-get uses state directories of
// its own, so the host's package lists and installed packages do not change. apt checks signatures against the Debian
// archive keyring; the package checks digests again against the lock.
//
// It never installs anything and has no mirror built in: the mirror comes from the host's own sources or from Config.
// Read Config first.
package apt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Config names the archive to ask and the directories to use.
type Config struct {
	Board      string         // for hints in messages
	Cache      string         // directory; packages go to Cache/debs, apt's state to Cache/apt/ARCH
	Arch       string         // Debian's name
	Suite      string         // such as "trixie"
	Components []string       // "main" if empty
	Mirrors    []string       // URIs; the host's own Debian mirrors if empty
	Keyring    string         // keyring that has signed the mirror; the Debian archive keyring if empty
	Report     func(Progress) // called from one goroutine at a time; may be nil
	Etc        string         // the host's apt configuration, /etc/apt if empty
}

// Progress is the progress of a step; Total is 0 while unknown.
type Progress struct {
	What        string
	Done, Total int64
}

const defaultKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// archive is one state of apt, opened and locked.
type archive struct {
	cfg    Config
	state  string // absolute Cache/apt/ARCH-SUITE
	conf   string
	unlock func() error
	fresh  bool // the lists were updated after open
}

// open prepares the state directories and takes their lock, waiting for another builder that holds it.
func open(ctx context.Context, cfg Config) (*archive, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return nil, fmt.Errorf("find apt-get: %w: board packages need a Debian or Ubuntu host", err)
	}
	var err error
	if cfg.Cache, err = filepath.Abs(cfg.Cache); err != nil {
		return nil, fmt.Errorf("find cache directory: %w", err)
	}
	if cfg.Keyring == "" {
		cfg.Keyring = defaultKeyring
	}
	if _, err := os.Stat(cfg.Keyring); err != nil {
		return nil, fmt.Errorf("find the archive's keys: %w\nto get them: apt-get install debian-archive-keyring", err)
	}
	a := &archive{cfg: cfg, state: filepath.Join(cfg.Cache, "apt", cfg.Arch+"-"+cfg.Suite)}
	a.conf = filepath.Join(a.state, "apt.conf")
	if err := a.prepare(ctx); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *archive) prepare(ctx context.Context) error {
	mirrors := a.cfg.Mirrors
	if len(mirrors) == 0 {
		var err error
		if mirrors, err = hostMirrors(a.cfg.Etc); err != nil {
			return err
		}
	}
	for _, dir := range []string{"lists/partial", "cache/archives/partial", "sources", "download"} {
		if err := os.MkdirAll(filepath.Join(a.state, dir), 0o755); err != nil {
			return fmt.Errorf("prepare apt state: %w", err)
		}
	}
	var err error
	waiting := func() { a.report(Progress{What: "waiting for another builder"}) }
	if a.unlock, err = exclusive(ctx, filepath.Join(a.state, "builder.lock"), waiting); err != nil {
		return err
	}
	for file, text := range map[string]string{
		a.conf: configText(a.state, a.cfg.Arch),
		filepath.Join(a.state, "sources/d.sources"): sourcesText(a.cfg, mirrors),
		filepath.Join(a.state, "status"):            "",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return fmt.Errorf("prepare apt state: %w", err)
		}
	}
	return nil
}

func (a *archive) close() error {
	if a.unlock == nil {
		return nil
	}
	return a.unlock()
}

// configText is apt's configuration. It is passed with -c, which apt reads after the host's own files: the proxies of
// the host stay in force, and its hooks do not run.
func configText(state, arch string) string {
	return fmt.Sprintf(`#clear APT::Architectures;
#clear APT::Update;
#clear DPkg;
APT::Architecture %[2]q;
APT::Architectures { %[2]q; };
APT::Default-Release "";
APT::Sandbox::User "";
Dir::State %[1]q;
Dir::State::lists "%[1]s/lists";
Dir::State::status "%[1]s/status";
Dir::State::extended_states "%[1]s/extended_states";
Dir::Cache "%[1]s/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "%[1]s/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
`, state, arch)
}

func sourcesText(cfg Config, mirrors []string) string {
	components := cfg.Components
	if len(components) == 0 {
		components = []string{"main"}
	}
	return fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\nComponents: %s\nArchitectures: %s\nSigned-By: %s\n",
		strings.Join(mirrors, " "), cfg.Suite, strings.Join(components, " "), cfg.Arch, cfg.Keyring)
}

// run runs one of apt's programs with the archive's state. An error contains the program's last complaint.
func (a *archive) run(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, append([]string{"-c", a.conf, "-q"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // so that apt keeps the partial file
	cmd.WaitDelay = 5 * time.Second
	var out, complaints strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(program), args[0], err,
			firstFaults(complaints.String()))
	}
	return out.String(), nil
}

// firstFaults selects apt's errors from its output, on one line; if there are none, the last line.
func firstFaults(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	var bad []string
	for _, line := range lines {
		if e, found := strings.CutPrefix(line, "E: "); found {
			bad = append(bad, e)
		}
	}
	if len(bad) == 0 {
		return lines[len(lines)-1]
	}
	return strings.Join(bad[:min(len(bad), 3)], "; ")
}

// update fetches the package lists and their signatures.
func (a *archive) update(ctx context.Context) error {
	a.report(Progress{What: "package lists of " + a.cfg.Suite + " " + a.cfg.Arch})
	// Error-Mode: a missing signature or list is an error, not a warning.
	_, err := a.run(ctx, a.state, "apt-get", "update", "-o", "APT::Update::Error-Mode=any")
	if err != nil {
		return fmt.Errorf("update package lists: %w", err)
	}
	a.fresh = true
	return nil
}

func (a *archive) report(p Progress) {
	if a.cfg.Report != nil {
		a.cfg.Report(p)
	}
}
