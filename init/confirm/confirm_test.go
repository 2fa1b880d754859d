package confirm

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
	"resinos/bsp/update"
	"resinos/containers/appstatus"
	"resinos/mounts/testenv"
	"resinos/services/pid1"
)

// well is a device that has all it had before.
func well() Look {
	l := Look{Network: true, Apps: appstatus.Status{Apps: []appstatus.App{{Name: "shop", State: appstatus.Up,
		Containers: []appstatus.Container{{Name: "web", ID: "shop.web", State: appstatus.Up},
			{Name: "setup", ID: "shop.setup", State: appstatus.Done}}}}}}
	for _, name := range Essential {
		l.Services = append(l.Services, pid1.ServiceStatus{Name: name, State: "up"})
	}
	return l
}

func TestJudge(t *testing.T) {
	before := update.Before{Network: true, Containers: []string{"shop.web", "shop.setup"}}
	for _, test := range []struct {
		name   string
		change func(*Look)
		want   string // "" is well
	}{
		{"well", func(*Look) {}, ""},
		{"PID 1", func(l *Look) { l.PID1 = errors.New("gone") }, "PID 1 does not answer: gone"},
		{"engine down", func(l *Look) { l.Services[3].State, l.Services[3].Reason = "backoff", "exit 1" },
			"service containerd is backoff: exit 1"},
		{"masked", func(l *Look) { l.Services[2].State, l.Services[2].Masked = "stopped", true }, ""},
		{"unhealthy", func(l *Look) { l.Services[2].Health = "2 failures" }, "service netd is not healthy: 2 failures"},
		{"service missing", func(l *Look) { l.Services = l.Services[1:] }, "service logd is missing"},
		{"no engine", func(l *Look) {
			l.Apps.Trouble = appstatus.Trouble{Cause: appstatus.NoEngine,
				Reason: "no socket"}
		}, "not well: no socket"},
		{"no status", func(l *Look) { l.AppsErr = errors.New("no file") }, "says nothing about the apps: no file"},
		{"app gone", func(l *Look) { l.Apps.Apps = nil }, "app shop is missing"},
		{"container gone", func(l *Look) { l.Apps.Apps[0].Containers = l.Apps.Apps[0].Containers[1:] },
			"container shop.web is missing"},
		{"container down", func(l *Look) {
			l.Apps.Apps[0].Containers[0].State = appstatus.Backoff
			l.Apps.Apps[0].Containers[0].Reason = "exit 7"
		}, "container shop.web is backoff, it was up before the update: exit 7"},
		{"no network", func(l *Look) { l.Network = false }, "no default route"},
	} {
		l := well()
		test.change(&l)
		got := strings.Join(Judge(l, before), "; ")
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	lonely := well()
	lonely.Network, lonely.Apps.Apps = false, nil
	if got := Judge(lonely, update.Before{}); got != nil {
		t.Errorf("a device that had neither network nor apps: %q", got)
	}
	if got := Before(well()); !got.Network || strings.Join(got.Containers, " ") != "shop.web" {
		t.Errorf("before the update there was %+v", got)
	}
}

func TestDefaultRoute(t *testing.T) {
	const head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	const zero = "00000000000000000000000000000000"
	for _, test := range []struct {
		name, v4, v6 string
		want         bool
	}{
		{"none", head, "", false},
		{"a network", head + "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", "", false},
		{"default", head + "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n", "", true},
		{"IPv6 that is unreachable", head,
			zero + " 00 " + zero + " 00 " + zero + " ffffffff 00000001 00000000 00200200       lo\n", false},
		{"IPv6", head, zero + " 00 " + zero + " 00 fe80 00000400 00000001 00000000 00450003     eth0\n", true},
		{"damaged", "x\n\n\x00", "00 00\n", false},
	} {
		proc := t.TempDir()
		if err := os.Mkdir(filepath.Join(proc, "net"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"route": test.v4, "ipv6_route": test.v6} {
			if err := os.WriteFile(filepath.Join(proc, "net", name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := DefaultRoute(proc); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// fake is a device on trial.
type fake struct {
	look    func() Look
	settled update.Settled
	did     []string
	cause   update.Cause
	reason  string
}

func (f *fake) Look(context.Context) Look                      { return f.look() }
func (f *fake) Settle(context.Context) (update.Settled, error) { return f.settled, nil }
func (f *fake) Reached() error                                 { f.did = append(f.did, "reached"); return nil }
func (f *fake) Confirm(context.Context, string) error          { f.did = append(f.did, "confirm"); return nil }
func (f *fake) Reboot(context.Context) error                   { f.did = append(f.did, "reboot"); return nil }
func (f *fake) GiveUp(_ context.Context, c update.Cause, why string) error {
	f.did, f.cause, f.reason = append(f.did, "give up"), c, why
	return nil
}

func onTrial() update.Settled {
	r := update.Record{}
	r.Add(update.Attempt{Slot: slot.B, State: update.Trial, Before: update.Before{Network: true,
		Containers: []string{"shop.web"}}})
	return update.Settled{Record: r, OnTrial: true, Variables: bootvars.New()}
}

func TestRun(t *testing.T) {
	for _, test := range []struct {
		name   string
		look   func(now time.Duration, f *fake) Look
		check  string // the script of the owner's check
		did    string
		after  time.Duration // at least
		before time.Duration // at most
		reason string
	}{
		{"well", func(time.Duration, *fake) Look { return well() }, "", "reached confirm", Stable, Stable + 2*Every,
			""},
		{"well after a while", func(now time.Duration, _ *fake) Look {
			l := well()
			l.Network = now > 3*time.Minute
			return l
		}, "", "reached confirm", 4 * time.Minute, 4*time.Minute + 2*Every, ""},
		{"restarts", func(now time.Duration, _ *fake) Look {
			l := well()
			l.Apps.Apps[0].Containers[0].Restarts = int(now / (30 * time.Second))
			return l
		}, "", "reached give up reboot", Deadline, Deadline + 2*Every, "not for 1m0s without a restart"},
		{"restarts of what was not up before", func(now time.Duration, _ *fake) Look {
			l := well()
			l.Apps.Apps[0].Containers = append(l.Apps.Apps[0].Containers, appstatus.Container{Name: "broken",
				ID: "shop.broken", State: appstatus.Backoff, Restarts: int(now / (30 * time.Second))})
			l.Apps.Apps[0].Sum()
			return l
		}, "", "reached confirm", Stable, Stable + 2*Every, ""},
		{"never well", func(time.Duration, *fake) Look { return Look{PID1: errors.New("hangs")} },
			"", "reached give up reboot", Deadline, Deadline + 2*Every,
			"not healthy 10m0s after the start: PID 1 does not answer: hangs"},
		{"by hand", func(now time.Duration, f *fake) Look {
			f.settled.OnTrial = now < 10*time.Second
			return Look{}
		}, "", "reached", 10 * time.Second, 10*time.Second + 2*Every, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				now := func() time.Duration { return time.Since(began) }
				f := &fake{settled: onTrial()}
				f.look = func() Look { return test.look(now(), f) }
				err := Run(t.Context(), Config{Device: f, Checks: "/nowhere", Stable: Stable, Until: Deadline,
					Every: Every, Now: now,
					Log: slog.New(slog.DiscardHandler)})
				if got := strings.Join(f.did, " "); err != nil || got != test.did || now() < test.after ||
					now() > test.before {
					t.Errorf("it did %q after %v, %v; want %q after %v", got, now(), err, test.did, test.after)
				}
				if !strings.Contains(f.reason, test.reason) || test.reason != "" && f.cause != update.Unhealthy {
					t.Errorf("reason %s %q, want %q", f.cause, f.reason, test.reason)
				}
			})
		})
	}
}

// TestNotOnTrial: a boot that is not on trial looks at nothing; one that was being left is left.
func TestNotOnTrial(t *testing.T) {
	for want, s := range map[string]update.Settled{"": {Says: []string{"mended"}}, "reboot": {Leaving: true}} {
		f := &fake{settled: s, look: func() Look { panic("it looks") }}
		if err := Run(t.Context(), Config{Device: f, Log: slog.New(slog.DiscardHandler)}); err != nil ||
			strings.Join(f.did, " ") != want {
			t.Errorf("it did %q, %v, want %q", f.did, err, want)
		}
	}
}

// TestOwnersChecks: each has to end with 0, in time; what cannot be executed is no check.
func TestOwnersChecks(t *testing.T) {
	if err := ownersChecks(t.Context(), "/nowhere", time.Minute); err != nil {
		t.Error(err)
	}
	for _, test := range []struct {
		name  string
		files map[string]string // by name; the mode is 0755 unless the name ends in .txt
		limit time.Duration
		want  string
	}{
		{"none", nil, time.Minute, ""},
		{"good", map[string]string{"a": "true", "README.txt": "x", ".hidden": "exit 3"}, time.Minute, ""},
		{"bad", map[string]string{"a": "true", "b": "echo no uplink; exit 3", "c": "exit 4"}, time.Minute,
			"/b: exit status 3\nno uplink"},
		{"hangs", map[string]string{"a": "sleep 1000 & wait"}, 200 * time.Millisecond, "no answer within 200ms"},
		{"leaves a process", map[string]string{"a": "sleep 1000 &"}, time.Minute, ""},
		{"talks", map[string]string{"a": "head -c 9999999 /dev/zero; echo end; exit 1"}, time.Minute, "end"},
	} {
		t.Run(test.name, func(t *testing.T) {
			testenv.NeedRoot(t, "a mount namespace")
			testenv.NeedPrograms(t, "sh", "sleep", "head")
			dir := t.TempDir()
			for name, text := range test.files {
				mode := os.FileMode(0o755)
				if strings.HasSuffix(name, ".txt") {
					mode = 0o644
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), mode); err != nil {
					t.Fatal(err)
				}
			}
			err := ownersChecks(t.Context(), dir, test.limit)
			if (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("%d bytes of an error", len(err.Error()))
			}
		})
	}
}

// TestOwnersCheckDelays: a failing check of the owner is tried again until the deadline.
func TestOwnersCheckDelays(t *testing.T) {
	testenv.NeedRoot(t, "a mount namespace")
	dir := t.TempDir()
	flag := filepath.Join(dir, "flag")
	script := "#!/bin/sh\ntest -e " + flag + " && exit 0\ntouch " + flag + "\nexit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "check"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	var now time.Duration
	f := &fake{settled: onTrial(), look: func() Look { now += Every; return well() }}
	err := Run(t.Context(), Config{Device: f, Checks: dir, Stable: 20 * time.Second, Until: Deadline,
		Every: time.Millisecond,
		Now:   func() time.Duration { return now }, Log: slog.New(slog.DiscardHandler)})
	if got := strings.Join(f.did, " "); err != nil || got != "reached confirm" || now < 30*time.Second {
		t.Errorf("it did %q after %v, %v", got, now, err)
	}
}

// TestOwnersCheckIsTheReason: the slot is left because of the failing check, also if the deadline passes between two
// tries of it.
func TestOwnersCheckIsTheReason(t *testing.T) {
	testenv.NeedRoot(t, "a mount namespace")
	dir := t.TempDir()
	const script = "#!/bin/sh\necho no uplink\nexit 3\n"
	if err := os.WriteFile(filepath.Join(dir, "check"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, until := range []time.Duration{20, 22, 24, 26, 28, 30, 32} {
		var now time.Duration
		f := &fake{settled: onTrial(), look: func() Look { now += Every; return well() }}
		err := Run(t.Context(), Config{Device: f, Checks: dir, Stable: 10 * time.Second, Until: until * time.Second,
			Every: time.Millisecond,
			Now:   func() time.Duration { return now }, Log: slog.New(slog.DiscardHandler)})
		if err != nil || !strings.Contains(f.reason, "check: exit status 3\nno uplink") {
			t.Errorf("left after %v: reason %q, %v", now, f.reason, err)
		}
	}
}

// TestOwnersChecksAreExecuted: what persists is attached with noexec, and the checks run all the same. Nobody else may
// execute them.
func TestOwnersChecksAreExecuted(t *testing.T) {
	if !testenv.Again(t, unix.CLONE_NEWNS) {
		return
	}
	dir := t.TempDir()
	for _, m := range []struct {
		kind, target string
		flags        uintptr
	}{{"", "/", unix.MS_PRIVATE | unix.MS_REC}, {"tmpfs", dir, unix.MS_NOEXEC | unix.MS_NOSUID}} {
		if err := unix.Mount("none", m.target, m.kind, m.flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	defer unix.Unmount(dir, unix.MNT_DETACH) // the namespace ends all the same
	check := filepath.Join(dir, "check")
	if err := os.WriteFile(check, []byte("#!/bin/sh\necho no uplink\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := ownersChecks(t.Context(), dir, time.Minute)
	if err == nil || !strings.Contains(err.Error(), "exit status 3\nno uplink") {
		t.Errorf("ownersChecks = %v", err)
	}
	if err := exec.Command(check).Run(); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("outside the checks: %v", err)
	}
}
