package leasememory

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"resinos/net/lease"
)

const ours, theirs = "52:54:00:12:34:56", "52:54:00:aa:bb:cc"

func sample() Entry {
	return Entry{
		Lease: lease.Lease{
			Link: "eth0", Hardware: ours, Address: netip.MustParsePrefix("10.9.0.50/24"),
			Server: netip.MustParseAddr("10.9.0.2"), Routers: []netip.Addr{netip.MustParseAddr("10.9.0.1")},
			DNS: []netip.Addr{netip.MustParseAddr("10.9.0.1")}, Domains: []string{"lab.example"},
			Bound: time.Minute, Renew: time.Hour, Rebind: 2 * time.Hour, Length: 3 * time.Hour,
		},
		Witness: netip.MustParseAddr("10.9.0.1"), Hardware: theirs, Saved: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC),
	}
}

func TestSaveAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "leases")
	e := sample()
	if _, err := Load(dir, "eth0", ours); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	if err := e.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := Load(dir, "eth0", ours)
	same := got.Covers(e.Lease) && got.Witness == e.Witness && got.Hardware == theirs && got.Saved.Equal(e.Saved)
	if err != nil || !same {
		t.Errorf("Load = %+v, %v", got, err)
	}
	if _, err := Load(dir, "eth0", theirs); err == nil {
		t.Error("the lease of another card was read")
	}
	if err := os.Rename(Path(dir, "eth0"), Path(dir, "eth1")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, "eth1", ours); err == nil {
		t.Error("the lease of another link was read")
	}
	if err := errors.Join(Remove(dir, "eth1"), Remove(dir, "eth1")); err != nil {
		t.Error(err)
	}
}

func TestGarbage(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile(func() string { sample().Save(dir); return Path(dir, "eth0") }())
	if err != nil {
		t.Fatal(err)
	}
	for name, garbage := range map[string]string{
		"nothing": "", "zeros": strings.Repeat("\x00", 4096), "half": string(text[:len(text)/2]),
		"huge":              strings.Repeat(" ", 1<<20) + string(text),
		"no witness":        strings.Replace(string(text), `"witness":"10.9.0.1"`, `"witness":""`, 1),
		"witness elsewhere": strings.Replace(string(text), `"witness":"10.9.0.1"`, `"witness":"10.8.0.1"`, 1),
		"no hardware":       strings.Replace(string(text), theirs, "x", 1),
		"a loopback lease":  strings.ReplaceAll(string(text), "10.9.0.", "127.0.0."),
	} {
		if err := os.WriteFile(Path(dir, "eth0"), []byte(garbage), 0o600); err != nil {
			t.Fatal(err)
		}
		if e, err := Load(dir, "eth0", ours); err == nil {
			t.Errorf("%s is read as %+v", name, e)
		}
	}
}

func TestUsable(t *testing.T) {
	e := sample()
	e.Lease.Length = 30 * time.Minute
	for after, want := range map[time.Duration]time.Duration{
		0: 30 * time.Minute, 10 * time.Minute: 20 * time.Minute, 29*time.Minute + 30*time.Second: MinUse,
		1000 * time.Hour: MinUse, -1000 * time.Hour: 30 * time.Minute,
	} {
		if got := e.Usable(e.Saved.Add(after)); got != want {
			t.Errorf("usable %s after it was saved: %s, want %s", after, got, want)
		}
	}
	e.Lease.Length = 1000 * time.Hour
	if got := e.Usable(e.Saved); got != MaxUse {
		t.Errorf("a long lease is usable for %s, want %s", got, MaxUse)
	}
}

func TestWitness(t *testing.T) {
	l := sample().Lease
	for _, tt := range []struct{ router, server, want string }{
		{"10.9.0.1", "10.9.0.2", "10.9.0.1"},
		{"10.8.0.1", "10.9.0.2", "10.9.0.2"},
		{"10.9.0.50", "10.8.0.2", ""},
		{"", "10.9.0.2", "10.9.0.2"},
	} {
		l.Routers, l.Server = nil, netip.MustParseAddr(tt.server)
		if tt.router != "" {
			l.Routers = []netip.Addr{netip.MustParseAddr(tt.router)}
		}
		got, found := Witness(l)
		if found != (tt.want != "") || found && got.String() != tt.want {
			t.Errorf("router %q, server %s: witness %s, want %q", tt.router, tt.server, got, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	dir := f.TempDir()
	if err := sample().Save(dir); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(Path(dir, "eth0"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"lease":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := parse(text)
		if err != nil {
			return
		}
		if use := e.Usable(time.Now()); use < MinUse || use > MaxUse {
			t.Fatalf("usable for %s", use)
		}
		if !e.Covers(e.Lease) {
			t.Fatal("an entry does not cover itself")
		}
	})
}
