package workload

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"resinos/containers/load"
)

// TestOrderOfNewApp: who has just written an app's file, or a service into it, need not wait until it was read.
func TestOrderOfNewApp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		dir, _, end := f.run(t, map[string]string{"a": compose("x", "always")})
		time.Sleep(time.Minute) // the image comes
		f.take()
		if err := os.Mkdir(filepath.Join(dir, "apps", "b"), 0o755); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "apps", "b", load.ComposeFiles()[0])
		if err := os.WriteFile(file, []byte(compose("x", "always")), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := f.orders.Do(t.Context(), Order{Verb: ActUp, App: "b"}); err != nil {
			t.Error(err)
		}
		expect(t, "the new app", f.take(), "create b.web at 1m0s", "start b.web at 1m0s")
		err := f.orders.Do(t.Context(), Order{Verb: ActUp, App: "c"})
		if err == nil || !strings.Contains(err.Error(), `no app "c"`) {
			t.Errorf("up of an app that is not there: %v", err)
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

// TestOrdersAndPulls: who asks for a start is answered when the image has come and the program runs, or the pull has
// failed; a stop waits for no image; and what an app that is down needs stays.
func TestOrdersAndPulls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const far = "docker.io/library/far:latest"
		f := newFake()
		f.missing["docker.io/library/gone:latest"] = true
		_, _, end := f.run(t, map[string]string{
			"a": compose("far", "always"), "b": compose("gone", "always"), "c": compose("gone", "always"),
		})
		synctest.Wait()
		do := func(verb Act, app, want string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			err := f.orders.Do(ctx, Order{Verb: verb, App: app})
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s %s: %v, want %q", verb, app, err, want)
			}
		}
		do(ActUp, "a", "")
		expect(t, "up", f.take(), "create a.web at 30s", "pull "+far+" at 30s",
			"pull docker.io/library/gone:latest at 30s", "start a.web at 30s")
		do(ActStart, "b", "pull docker.io/library/gone:latest: no such image")
		do(ActStop, "b", "")
		do(ActDown, "a", "")
		expect(t, "down", f.take(), "delete a.web at 30s", "stop a.web at 30s")
		if need := f.needs.Now(); !slices.Contains(need.Images, far) || need.Unsure {
			t.Errorf("while its app is down, the image is not needed: %+v", need)
		}
		do(ActUp, "a", "")
		expect(t, "up again", f.take(), "create a.web at 30s", "start a.web at 30s")
		do(ActStop, "c", "")
		time.Sleep(2 * lastRetry)
		expect(t, "all that lack the image are stopped", f.take())
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}
