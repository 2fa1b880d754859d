package apt

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	//lint:ignore SA1019 only to sign the archive of a test; there is no other in our dependencies
	"golang.org/x/crypto/openpgp"
	"golang.org/x/crypto/openpgp/clearsign" //lint:ignore SA1019 as above
	"golang.org/x/crypto/openpgp/packet"    //lint:ignore SA1019 as above

	"resinos/bsp/boards"
	"resinos/bsp/deb/debtest"
	"resinos/bsp/lock"
	"resinos/mounts/testenv"
)

// mirror is a Debian archive on disk, signed by a key of its own.
type mirror struct {
	t      *testing.T
	dir    string
	key    *openpgp.Entity
	config Config
}

type pkg struct{ name, version, arch, extra, content string }

func newMirror(t *testing.T) *mirror {
	t.Helper()
	testenv.NeedPrograms(t, "apt-get", "gpgv")
	key, err := openpgp.NewEntity("test", "", "test@localhost", &packet.Config{DefaultHash: crypto.SHA256,
		RSABits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	m := &mirror{t: t, dir: t.TempDir(), key: key}
	var keyring bytes.Buffer
	if err := key.SerializePrivate(&bytes.Buffer{}, nil); err != nil { // signs the identities
		t.Fatal(err)
	}
	if err := key.Serialize(&keyring); err != nil {
		t.Fatal(err)
	}
	m.write("keyring.gpg", keyring.Bytes())
	m.config = Config{
		Board: "testboard", Cache: filepath.Join(t.TempDir(), "cache"), Arch: "amd64", Suite: "trixie",
		Mirrors: []string{"file:" + m.dir}, Keyring: filepath.Join(m.dir, "keyring.gpg"),
	}
	return m
}

func (m *mirror) write(name string, content []byte) {
	m.t.Helper()
	file := filepath.Join(m.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o644)); err != nil {
		m.t.Fatal(err)
	}
}

// serve replaces what the archive holds.
func (m *mirror) serve(packages ...pkg) {
	m.t.Helper()
	var list strings.Builder
	for _, p := range packages {
		path := m.poolPath(p)
		control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: x\nDescription: x\n%s", p.name,
			p.version, p.arch, p.extra)
		file := filepath.Join(m.dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			m.t.Fatal(err)
		}
		debtest.Write(m.t, file, "gz", control, []tar.Header{{Name: "./x"}}, map[string]string{"./x": p.content})
		content, err := os.ReadFile(file)
		if err != nil {
			m.t.Fatal(err)
		}
		fmt.Fprintf(&list, "%sFilename: %s\nSize: %d\nSHA256: %s\n\n", control, path, len(content), digest(content))
	}
	m.write("dists/trixie/main/binary-amd64/Packages", []byte(list.String()))
	m.sign(fmt.Sprintf("Origin: test\nSuite: trixie\nCodename: trixie\nDate: Thu, 01 Jan 2026 00:00:00 "+
		"UTC\nArchitectures: amd64 all\nComponents: main\nSHA256:\n %s %d main/binary-amd64/Packages\n",
		digest([]byte(list.String())), list.Len()))
}

func (m *mirror) sign(release string) {
	m.t.Helper()
	var signed bytes.Buffer
	w, err := clearsign.Encode(&signed, m.key.PrivateKey, &packet.Config{DefaultHash: crypto.SHA256})
	if err != nil {
		m.t.Fatal(err)
	}
	_, err = w.Write([]byte(release))
	if err := errors.Join(err, w.Close()); err != nil {
		m.t.Fatal(err)
	}
	m.write("dists/trixie/InRelease", signed.Bytes())
}

func (m *mirror) poolPath(p pkg) string {
	return fmt.Sprintf("pool/%s_%s_%s.deb", p.name, strings.ReplaceAll(p.version, ":", "%3a"), p.arch)
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func kernelAndFriends() []pkg {
	return []pkg{
		{"linux-image-amd64", "6.12.1-1", "amd64", "Depends: linux-image-6.12.1-amd64 (= 6.12.1-1)\n", "meta"},
		{"linux-image-6.12.1-amd64", "6.12.1-1", "amd64", "Depends: kmod, linux-base (>= 4.3~) | x\n", "kernel"},
		{"busybox-static", "1:1.37.0-6+b9", "amd64", "", strings.Repeat("busybox", 5000)},
		{"ca-certificates", "20250419", "all", "", "certificates"},
	}
}

func wanted() []string { return []string{"linux-image-amd64", "busybox-static", "ca-certificates"} }

func (m *mirror) pins() []lock.Package {
	m.t.Helper()
	pins, _, err := Resolve(m.t.Context(), m.config, "linux-image-amd64", wanted())
	if err != nil {
		m.t.Fatal(err)
	}
	return pins
}

func TestResolve(t *testing.T) {
	m := newMirror(t)
	m.serve(kernelAndFriends()...)
	pins, kernel, err := Resolve(t.Context(), m.config, "linux-image-amd64", wanted())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range pins {
		got = append(got, p.Name+" "+p.Version+" "+p.Architecture)
		if p.Size <= 0 || len(p.SHA256) != 64 {
			t.Errorf("%s: size %d, digest %q", p.Name, p.Size, p.SHA256)
		}
	}
	want := []string{"busybox-static 1:1.37.0-6+b9 amd64", "ca-certificates 20250419 all",
		"linux-image-6.12.1-amd64 6.12.1-1 amd64"}
	if !slices.Equal(got, want) || kernel != "linux-image-6.12.1-amd64" {
		t.Errorf("Resolve = %q, kernel %s, want %q", got, kernel, want)
	}
	if _, err := os.Stat("/var/lib/dpkg"); err == nil { // the host's own state must not be asked
		if conf, err := os.ReadFile(filepath.Join(m.config.Cache, "apt/amd64-trixie/apt.conf")); err != nil ||
			strings.Contains(string(conf), "/var/lib") {
			t.Errorf("the private configuration refers to the host's state (%v)", err)
		}
	}
	_, _, err = Resolve(t.Context(), m.config, "linux-image-amd64", append(wanted(), "nowhere", "nothing"))
	if err == nil || !strings.Contains(err.Error(), "nowhere") || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("Resolve of unknown packages: %v, want both named", err)
	}
}

func TestPin(t *testing.T) {
	m := newMirror(t)
	m.serve(kernelAndFriends()...)
	board := boards.Board{
		Name: "testboard", Suite: "trixie", DebianArch: "amd64",
		Kernel:   boards.Kernel{Package: "linux-image-amd64"},
		Userland: boards.Userland{Packages: []string{"busybox-static"}},
	}
	l, err := Pin(t.Context(), m.config, board)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Serves(board); err != nil {
		t.Errorf("the new lock does not serve its board: %v", err)
	}
	if _, err := lock.Parse("x", lock.Format(l)); err != nil {
		t.Errorf("the new lock does not parse: %v", err)
	}
}

func TestFetch(t *testing.T) {
	m := newMirror(t)
	m.serve(kernelAndFriends()...)
	pins := m.pins()
	reported := map[string]int64{}
	m.config.Report = func(p Progress) { reported[p.What] = p.Done }
	paths, err := Fetch(t.Context(), m.config, pins)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pins {
		content, err := os.ReadFile(paths[p.Name])
		if err != nil || digest(content) != p.SHA256 || paths[p.Name] != CachePath(m.config.Cache, p) {
			t.Errorf("%s is at %q with digest %s (%v)", p.Name, paths[p.Name], digest(content), err)
		}
		if reported[p.Name] != int64(p.Size) {
			t.Errorf("%s: progress ended at %d of %d", p.Name, reported[p.Name], p.Size)
		}
	}

	// The second time neither mirror nor apt is asked.
	m.config.Mirrors = []string{"file:/nowhere"}
	t.Setenv("PATH", "")
	if _, err := Fetch(t.Context(), m.config, pins); err != nil {
		t.Errorf("Fetch from the cache: %v", err)
	}
}

func TestFetchRepairs(t *testing.T) {
	m := newMirror(t)
	m.serve(kernelAndFriends()...)
	pins := m.pins()
	paths, err := Fetch(t.Context(), m.config, pins)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(paths["busybox-static"], []byte("damage"), 0o644),
		os.Remove(paths["ca-certificates"])); err != nil {
		t.Fatal(err)
	}
	// The rest of a killed download lies where the next one goes on.
	rest := filepath.Join(m.config.Cache, "apt/amd64-trixie/download/busybox-static_1%3a1.37.0-6+b9_amd64.deb")
	if err := os.WriteFile(rest, []byte("!<arch>\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if paths, err = Fetch(t.Context(), m.config, pins); err != nil {
		t.Fatal(err)
	}
	for _, p := range pins {
		if err := verify(paths[p.Name], p); err != nil {
			t.Error(err)
		}
	}
}

func TestFetchPinNoLongerServed(t *testing.T) {
	m := newMirror(t)
	m.serve(kernelAndFriends()...)
	pins := m.pins()
	newer := kernelAndFriends()
	newer[2].version = "1:1.38.0-1"
	m.serve(newer...)
	if err := os.RemoveAll(filepath.Join(m.dir, m.poolPath(kernelAndFriends()[2]))); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(m.config.Cache); err != nil {
		t.Fatal(err)
	}
	_, err := Fetch(t.Context(), m.config, pins)
	for _, want := range []string{"busybox-static 1:1.37.0-6+b9", "no longer serves", "resin bsp lock testboard"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Fetch: %v, want %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "ca-certificates") {
		t.Errorf("Fetch blames a package that is served: %v", err)
	}
	nothingKept(t, m.config)
}

// nothingKept wants no package in the cache.
func nothingKept(t *testing.T, cfg Config) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(cfg.Cache, "debs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) || len(left) != 0 {
		t.Errorf("the cache holds %v (%v)", left, err)
	}
}

func TestFetchOtherFileUnderTheSameVersion(t *testing.T) {
	m := newMirror(t)
	m.serve(kernelAndFriends()...)
	pins := m.pins()
	other := kernelAndFriends()
	other[2].content = "another program"
	m.serve(other...)
	_, err := Fetch(t.Context(), m.config, pins)
	for _, want := range []string{"busybox-static", pins[0].SHA256, "testboard.lock", "resin bsp lock testboard"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Fetch: %v, want %q", err, want)
		}
	}
}

func TestFetchDamagedOnMirror(t *testing.T) {
	m := newMirror(t)
	m.serve(kernelAndFriends()...)
	pins := m.pins()
	m.write(m.poolPath(kernelAndFriends()[2]), []byte("not what the list says"))
	_, err := Fetch(t.Context(), m.config, pins)
	if err == nil || !strings.Contains(err.Error(), "busybox-static") {
		t.Errorf("Fetch: %v, want the package named", err)
	}
	if _, err := os.Stat(CachePath(m.config.Cache, pins[0])); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a damaged package is in the cache (%v)", err)
	}
}

func TestUnsignedAndForeignArchivesAreRefused(t *testing.T) {
	m := newMirror(t)
	m.serve(kernelAndFriends()...)
	theirs := m.key
	m.key = newMirror(t).key
	m.serve(kernelAndFriends()...) // signed by a key that is not in the keyring
	if _, _, err := Resolve(t.Context(), m.config, "linux-image-amd64", wanted()); err == nil {
		t.Error("Resolve took an archive with a foreign signature")
	}
	m.key = theirs
	m.serve(kernelAndFriends()...)
	m.write("dists/trixie/main/binary-amd64/Packages", []byte("Package: evil\n"))
	if _, _, err := Resolve(t.Context(), m.config, "linux-image-amd64", wanted()); err == nil {
		t.Error("Resolve took a list that the signed release does not name")
	}
}

func TestFetchFaultsOfTheHost(t *testing.T) {
	m := newMirror(t)
	m.serve(kernelAndFriends()...)
	pins := m.pins()

	huge := slices.Clone(pins)
	huge[0].Size = 1 << 60
	if _, err := Fetch(t.Context(), m.config, huge); err == nil || !strings.Contains(err.Error(), "MiB free") ||
		!strings.Contains(err.Error(), m.config.Cache) {
		t.Errorf("Fetch without space: %v", err)
	}
	cfg := m.config
	cfg.Keyring = "/nowhere/keyring.gpg"
	if _, err := Fetch(t.Context(), cfg, pins); err == nil || !strings.Contains(err.Error(), "debian-archive-keyring") {
		t.Errorf("Fetch without keys: %v", err)
	}
	cfg = m.config
	cfg.Mirrors = []string{"file:/nowhere"}
	cfg.Cache = filepath.Join(t.TempDir(), "c")
	if _, err := Fetch(t.Context(), cfg, pins); err == nil || !strings.Contains(err.Error(), "update package lists") {
		t.Errorf("Fetch from nowhere: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Fetch(ctx, m.config, pins); !errors.Is(err, context.Canceled) {
		t.Errorf("Fetch: %v, want that it is cancelled", err)
	}
	nothingKept(t, m.config)
	t.Setenv("PATH", "")
	if _, err := Fetch(t.Context(), m.config, pins); err == nil || !strings.Contains(err.Error(), "apt-get") {
		t.Errorf("Fetch without apt: %v", err)
	}
}

func TestHostMirrors(t *testing.T) {
	etc := t.TempDir()
	if err := os.MkdirAll(filepath.Join(etc, "sources.list.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := hostMirrors(etc); err == nil || !strings.Contains(err.Error(), "--mirror") {
		t.Errorf("hostMirrors without sources: %v", err)
	}
	for name, text := range map[string]string{
		"sources.list": "# deb http://commented/debian trixie main\ndeb [arch=amd64 signed-by=/x.gpg] " +
			"http://one/debian bookworm main contrib\n" +
			"deb-src http://source/debian trixie main\ndeb http://security/debian-security bookworm-security " +
			"main\ndeb http://short\n",
		"sources.list.d/a.sources": "Types: deb deb-src\nURIs: http://two/debian http://one/debian\nSuites: trixie " +
			"trixie-updates\nComponents: main\n" +
			"\nTypes: deb\nURIs: http://other/x\nSuites: nodistro\nComponents: main\n\n# a comment\nEnabled: " +
			"no\nTypes: deb\nURIs: http://off/debian\nSuites: sid\nComponents: main\n" +
			"\nTypes: deb\nURIs:\n http://three/debian\nSuites: sid\nComponents: main\n",
		"sources.list.d/b.save": "deb http://saved/debian trixie main\n",
		"sources.list.d/c.list": "deb http://four/debian stable main\n",
	} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := hostMirrors(etc)
	want := []string{"http://four/debian", "http://one/debian", "http://three/debian", "http://two/debian"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("hostMirrors = %q, %v, want %q", got, err, want)
	}
}

func FuzzParseStanzas(f *testing.F) {
	f.Add("Types: deb\nURIs: x\n y\n\n#c\nA: b")
	f.Add(" \n:\n\t")
	f.Fuzz(func(t *testing.T, text string) {
		parseStanzas(text)
		lineMirrors(text)
		stanzaMirrors(text)
	})
}
