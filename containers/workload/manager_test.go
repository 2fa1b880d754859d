package workload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"resinos/containers/app"
	"resinos/containers/appfiles/appfilestest"
	"resinos/containers/load"
	"resinos/containers/plan"
	"resinos/containers/pull"
	"resinos/containers/restart"
	"resinos/containers/store"
)

// fakeEngine is containerd in memory. Pulls of images in missing fail; programs run until end.
type fakeEngine struct {
	mu      sync.Mutex // guards all
	state   plan.State
	missing map[string]bool
	calls   []string
	grace   map[string]time.Duration // of the last Stop
	status  uint32                   // of the programs that end by themselves
	changes chan struct{}
	orders  *Orders
	needs   *store.Needs
	begun   time.Time
}

func newFake() *fakeEngine {
	return &fakeEngine{
		state:   plan.State{Containers: map[string]plan.Have{}, Images: map[string]string{}},
		missing: map[string]bool{}, grace: map[string]time.Duration{}, status: 1, begun: time.Now(),
		orders: NewOrders(), needs: new(store.Needs),
	}
}

func (f *fakeEngine) call(verb plan.Verb, name string, change func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf("%s %s at %v", verb, name, time.Since(f.begun).Truncate(10*time.Millisecond)))
	return change()
}

func (f *fakeEngine) change(id string, change func(*plan.Have)) {
	h := f.state.Containers[id]
	change(&h)
	f.state.Containers[id] = h
}

func (f *fakeEngine) Connect(ctx context.Context) (<-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes = make(chan struct{}, 1)
	return f.changes, ctx.Err()
}

func (f *fakeEngine) Observe(context.Context, func(string) bool) (plan.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return plan.State{Containers: maps.Clone(f.state.Containers), Images: maps.Clone(f.state.Images)}, nil
}

func (f *fakeEngine) Import(_ context.Context, p plan.Preload) error {
	return f.call(plan.Import, p.Name, func() error { f.state.Images[p.Name] = p.Digest; return nil })
}

// fakePulls pulls into a fakeEngine, as pull.Pulls does into a real one.
type fakePulls struct {
	f       *fakeEngine
	changed chan struct{}
	all     sync.WaitGroup
	mu      sync.Mutex // guards what follows
	cancel  map[string]context.CancelFunc
	errs    map[string]error
}

func newFakePulls(f *fakeEngine) *fakePulls {
	return &fakePulls{f: f, changed: make(chan struct{}, 1), cancel: map[string]context.CancelFunc{},
		errs: map[string]error{}}
}

func (p *fakePulls) Want(images []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, cancel := range p.cancel {
		if !slices.Contains(images, name) {
			cancel()
			delete(p.cancel, name)
			delete(p.errs, name)
		}
	}
	for _, name := range images {
		if p.cancel[name] == nil {
			ctx, cancel := context.WithCancel(context.Background())
			p.cancel[name] = cancel
			p.all.Go(func() { p.pull(ctx, name) })
		}
	}
}

func (p *fakePulls) pull(ctx context.Context, name string) {
	for wait := 30 * time.Second; ; wait = lastRetry { // a registry takes its time
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		err := p.f.call(plan.Pull, name, func() error {
			if p.f.missing[name] {
				return errors.New("no such image")
			}
			p.f.state.Images[name] = "sha256:pulled"
			return nil
		})
		p.mu.Lock()
		if p.errs[name] = err; err == nil {
			delete(p.cancel, name)
		}
		p.mu.Unlock()
		select {
		case p.changed <- struct{}{}:
		default: // one is waiting
		}
		if err == nil {
			return
		}
	}
}

func (p *fakePulls) Status(image string) (pull.Status, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return pull.Status{Err: p.errs[image]}, p.cancel[image] != nil
}

func (p *fakePulls) Changed() <-chan struct{} { return p.changed }

func (f *fakeEngine) Create(_ context.Context, w plan.Want) error {
	return f.call(plan.Create, w.ID(), func() error {
		f.state.Containers[w.ID()] = plan.Have{App: w.App, Wish: w.Digest(), ImageDigest: f.state.Images[w.Image],
			StopGrace: w.StopGrace}
		return nil
	})
}

func (f *fakeEngine) Start(_ context.Context, c app.Container) error {
	return f.call(plan.Start, c.ID(),
		func() error { f.change(c.ID(), func(h *plan.Have) { h.Task = plan.Running }); return nil })
}

func (f *fakeEngine) Reap(_ context.Context, id string) (uint32, error) {
	// the group goes first
	err := f.call(plan.Reap, id, func() error { f.change(id, func(h *plan.Have) { h.Kills = 0 }); return nil })
	f.look()
	f.mu.Lock()
	f.change(id, func(h *plan.Have) { h.Task = plan.NoTask })
	f.mu.Unlock()
	f.look() // the engine tells of it before it answers
	return f.status, err
}

// look lets the manager observe what is there now.
func (f *fakeEngine) look() {
	f.changes <- struct{}{}
	time.Sleep(time.Millisecond) // sleep: of synctest
}

func (f *fakeEngine) Note(_ context.Context, id string, mark plan.Mark, value string) error {
	return f.call(plan.Note, id, func() error {
		f.change(id, func(h *plan.Have) {
			if mark == plan.Held {
				h.Held = value
			} else {
				h.StaysEnded = value
			}
		})
		return nil
	})
}

// Stop ends a program with 0: it heard the signal.
func (f *fakeEngine) Stop(_ context.Context, id string, grace time.Duration) (uint32, error) {
	return 0, f.call(plan.Stop, id, func() error {
		f.grace[id] = grace
		f.change(id, func(h *plan.Have) { h.Task = plan.NoTask })
		return nil
	})
}

func (f *fakeEngine) Delete(_ context.Context, id string) error {
	return f.call(plan.Delete, id, func() error { delete(f.state.Containers, id); return nil })
}

// end lets the program of a container end.
func (f *fakeEngine) end(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change(id, func(h *plan.Have) { h.Task, h.Status = plan.Stopped, f.status })
	select {
	case f.changes <- struct{}{}:
	default: // one is waiting
	}
}

// die cuts the connection.
func (f *fakeEngine) die() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.changes)
}

// take returns the calls since the last take.
func (f *fakeEngine) take() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	slices.Sort(calls)
	return strings.Join(calls, "\n")
}

// run starts a manager on apps, files by name, and returns its end.
func (f *fakeEngine) run(t *testing.T, apps map[string]string) (dir string, log *bytes.Buffer, end func() error) {
	t.Helper()
	dir = t.TempDir()
	for name, compose := range apps {
		if err := os.MkdirAll(filepath.Join(dir, "apps", name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "apps", name, load.ComposeFiles()[0]), []byte(compose),
			0o644); err != nil {
			t.Fatal(err)
		}
	}
	log, end = f.manager(t, dir)
	return dir, log, end
}

// manager starts one on what lies in dir.
func (f *fakeEngine) manager(t *testing.T, dir string) (log *bytes.Buffer, end func() error) {
	log = new(bytes.Buffer)
	pulls := newFakePulls(f)
	m := &Manager{retries: map[string]retry{}, silent: map[string]bool{},
		now: func() time.Duration { return time.Since(f.begun) }, c: Config{
			Orders: f.orders, Needs: f.needs, Down: filepath.Join(dir, "down.json"),
			Engine: f, Pulls: pulls, Loader: appfilestest.InProcess{}, Apps: filepath.Join(dir, "apps"),
			Records:  filepath.Join(dir, "records"),
			Shutdown: filepath.Join(dir, "power"), Status: filepath.Join(dir, "apps.json"),
			Log: slog.New(slog.NewTextHandler(log, nil)),
		}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.run(ctx) }()
	return log, func() error {
		cancel()
		err := <-done
		pulls.Want(nil)
		pulls.all.Wait()
		return err
	}
}

// powerUp is what is left of the programs and of /run when the device comes up again.
func (f *fakeEngine) powerUp(t *testing.T, dir string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.state.Containers {
		f.change(id, func(h *plan.Have) { h.Task = plan.NoTask })
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "records")),
		os.RemoveAll(filepath.Join(dir, "power"))); err != nil {
		t.Fatal(err)
	}
}

func compose(image, restart string) string {
	return fmt.Sprintf("services: {web: {image: %s, network_mode: host, restart: %s}}", image, restart)
}

func expect(t *testing.T, what, got string, want ...string) {
	t.Helper()
	if w := strings.Join(want, "\n"); got != w {
		t.Errorf("%s:\ngot\n%s\nwant\n%s", what, got, w)
	}
}

func TestManagerPullsWithoutHinderingOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.missing["docker.io/library/gone:latest"] = true
		f.state.Images["docker.io/library/there:latest"] = "sha256:there"
		_, log, end := f.run(t, map[string]string{
			"a": compose("gone", "always"), "b": compose("there", "always"), "c": "services: [",
			"d": compose("far", "always"),
		})
		synctest.Wait()
		expect(t, "at once", f.take(), "create b.web at 0s", "start b.web at 0s")
		time.Sleep(31 * time.Second)
		synctest.Wait()
		expect(t, "after the pulls", f.take(), "create d.web at 30s", "pull docker.io/library/far:latest at 30s",
			"pull docker.io/library/gone:latest at 30s", "start d.web at 30s")
		time.Sleep(time.Hour)
		if n := strings.Count(f.take(), "gone"); n < 12 || n > 20 {
			t.Errorf("%d pulls within an hour", n)
		}
		f.mu.Lock()
		f.missing = nil
		f.mu.Unlock()
		time.Sleep(lastRetry + time.Minute)
		if !strings.Contains(f.take(), "start a.web") {
			t.Error("not started although its image came")
		}
		if err := end(); err != nil {
			t.Error(err)
		}
		if !strings.Contains(log.String(), "compose.yaml:1") {
			t.Errorf("the bad file and its line are not in the log:\n%s", log)
		}
	})
}

func TestManagerRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.state.Images["docker.io/library/there:latest"] = "sha256:there"
		dir, _, end := f.run(t, map[string]string{"a": compose("there", "on-failure:2"),
			"b": compose("there", "always")})
		time.Sleep(time.Second)
		f.take()
		for _, want := range []string{"1s\nstart a.web at 1.1s", "2s\nstart a.web at 2.2s", "3s"} {
			synctest.Wait()
			f.end("a.web")
			time.Sleep(time.Second)
			expect(t, "ended", f.take(), "reap a.web at "+want)
		}
		if got, err := restart.Load(filepath.Join(dir, "records")); err != nil || got["a.web"].Starts != 3 ||
			got["a.web"].Running {
			t.Errorf("records: %+v, %v", got, err)
		}
		if err := end(); err != nil {
			t.Error(err)
		}
		if calls := f.take(); calls != "" {
			t.Errorf("the end of the manager did %s", calls)
		}
	})
}

func TestManagerOutlivesTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		_, _, end := f.run(t, map[string]string{"a": compose("far", "always")})
		time.Sleep(10 * time.Second)
		f.die() // in the middle of a pull
		time.Sleep(40 * time.Second)
		expect(t, "again", f.take(), "create a.web at 30s", "pull docker.io/library/far:latest at 30s",
			"start a.web at 30s")
		f.die()
		time.Sleep(2 * time.Minute)
		expect(t, "adopted", f.take())
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

func TestManagerStopsContainersAtShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.state.Images["docker.io/library/there:latest"] = "sha256:there"
		dir, _, end := f.run(t, map[string]string{
			"a": "services: {x: {image: there, network_mode: host, stop_grace_period: 1h}, y: {image: there, " +
				"network_mode: host, stop_grace_period: 2s}}",
		})
		time.Sleep(time.Second)
		if err := os.WriteFile(filepath.Join(dir, "power"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		f.take()
		if err := end(); err != nil {
			t.Error(err)
		}
		// how they ended is kept
		expect(t, "shutdown", f.take(), "note a.x at 1s", "note a.y at 1s", "stop a.x at 1s", "stop a.y at 1s")
		if f.grace["a.x"] != stopLimit || f.grace["a.y"] != 2*time.Second {
			t.Errorf("graces %v", f.grace)
		}
	})
}

// TestManagerAfterAReboot holds each policy to what Docker makes of it: whether the program had ended by itself,
// with what status, ran when the device was asked to go down (the fake's programs then end with 0), or when the
// power was cut.
func TestManagerAfterAReboot(t *testing.T) {
	const cut, down, well, badly = "power cut", "went down", "ended with 0", "ended with 1"
	for policy, again := range map[string]string{
		`"no"`:           "",
		"on-failure":     cut + badly,
		"on-failure:1":   cut + badly,
		"always":         cut + down + well + badly,
		"unless-stopped": cut + down + well + badly,
	} {
		for _, how := range []string{cut, down, well, badly} {
			t.Run(policy+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake()
					f.state.Images["docker.io/library/there:latest"] = "sha256:there"
					dir, _, end := f.run(t, map[string]string{"a": compose("there", policy)})
					time.Sleep(time.Second)
					synctest.Wait()
					switch how {
					case well:
						f.status = 0
						f.end("a.web")
					case badly:
						f.status = 1
						f.end("a.web")
					case down:
						if err := os.WriteFile(filepath.Join(dir, "power"), nil, 0o644); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(10 * time.Millisecond) // the engine answers a reap a little later than it tells of it
					synctest.Wait()
					if err := end(); err != nil {
						t.Error(err)
					}
					f.powerUp(t, dir)
					f.take()
					_, end = f.manager(t, dir)
					time.Sleep(time.Minute)
					if started := strings.Contains(f.take(), "start a.web"); started != strings.Contains(again, how) {
						t.Errorf("started again: %v", started)
					}
					if err := end(); err != nil {
						t.Error(err)
					}
					// The owner changes the file: a new container, which nothing is known of.
					text := strings.Replace(compose("there", policy), "image:", "user: root, image:", 1)
					if err := os.WriteFile(filepath.Join(dir, "apps", "a", "compose.yaml"), []byte(text),
						0o644); err != nil {
						t.Fatal(err)
					}
					_, end = f.manager(t, dir)
					time.Sleep(time.Minute)
					if calls := f.take(); !strings.Contains(calls, "start a.web") {
						t.Errorf("not started although the file changed:\n%s", calls)
					}
					if err := end(); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// TestManagerWritesLittle: nothing is kept of a container that is started again at every boot, however often it ends.
func TestManagerWritesLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.state.Images["docker.io/library/there:latest"] = "sha256:there"
		_, _, end := f.run(t, map[string]string{"a": compose("there", "always"), "b": compose("there", "on-failure"),
			"c": compose("there", `"no"`)})
		for range 20 {
			time.Sleep(time.Minute)
			synctest.Wait()
			f.end("a.web")
			f.end("b.web") // with 1
		}
		time.Sleep(time.Minute)
		if calls := f.take(); strings.Count(calls, "note") != 1 || !strings.Contains(calls, "note c.web") {
			t.Errorf("calls:\n%s", calls)
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

func TestManagerReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.state.Containers["old.web"] = plan.Have{App: "old", Wish: "x", Task: plan.Running}
		f.state.Containers["c.web"] = plan.Have{App: "c", Wish: "x", Task: plan.Running}
		_, _, end := f.run(t, map[string]string{"c": "services: 5"})
		time.Sleep(time.Second)
		expect(t, "an app that is gone, and one that is broken", f.take(), "delete old.web at 0s", "stop old.web at 0s")
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}
