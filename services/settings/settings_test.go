package settings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"resinos/mounts/testenv"
)

func of(pairs ...string) Settings {
	s := Settings{Source: File, Values: map[string]Value{}}
	for i := 0; i < len(pairs); i += 2 {
		s.Values[pairs[i]] = Value{json.RawMessage(pairs[i+1]), File}
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestValuesByKind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if s, err := Read(path); err != nil || s.Values != nil {
		t.Errorf("nothing published gives %+v, %v", s, err)
	}
	_, err := Publish(path, of("text", `"a"`, "flag", `true`, "number", `7`, "list", `["x","y"]`, "table", `{"n":"t"}`))
	must(t, err)
	s, err := Read(path)
	must(t, err)
	if s.Text("text") != "a" || !s.Flag("flag") || s.Number("number") != 7 || len(s.List("list")) != 2 ||
		s.Table("table")["n"] != "t" {
		t.Errorf("read back %+v", s)
	}
	if s.Text("list") != "" || s.Flag("text") || s.Number("none") != 0 || s.List("text") != nil {
		t.Errorf("a value of another kind is not nothing: %+v", s)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: secrets are for root", info.Mode(), err)
	}
	if before := of("list", `["x","y"]`, "table", `{"n":"t"}`); !s.Same(before, []string{"list", "table"}) ||
		digest(s.Values["list"]) != digest(before.Values["list"]) {
		t.Errorf("a value changes on its way: %s", s.Values["list"].JSON)
	}
	if changed, err := Publish(path, s); changed || err != nil {
		t.Errorf("publishing the same again: %v, %v", changed, err)
	}
	must(t, os.WriteFile(path, []byte("{half"), 0o600))
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("half a file gives %v", err)
	}
}

// TestTakeTwiceAtOnce: the followers of one daemon lose no record of each other.
func TestTakeTwiceAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	var beside sync.WaitGroup
	const followers = 8
	for i := range followers {
		beside.Go(func() {
			if err := Take(path, "netd", of("a", `"b"`), []string{fmt.Sprint("key", i)}, time.Second, nil); err != nil {
				t.Error(err)
			}
		})
	}
	beside.Wait()
	if all, err := AllTaken(path); err != nil || len(all) != followers {
		t.Errorf("%d of %d are recorded: %v, %v", len(all), followers, all, err)
	}
}

// TestFollow: a follower hears what is there, then each change of its own keys, and nothing of others'.
func TestFollow(t *testing.T) { follow(t) }

// TestFollowWithoutInotify: a container that has taken all instances keeps no daemon from its settings.
func TestFollowWithoutInotify(t *testing.T) {
	if limit := testenv.UserLimit(t, "max_inotify_instances"); limit != nil {
		limit(0)
		follow(t)
	}
}

func follow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "config.json")
	heard := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- Follow(ctx, Follower{Path: path, Daemon: "d", Keys: []string{"a", "b"}, Apply: func(s Settings) error {
			heard <- s.Text("a") + s.Text("b")
			if s.Text("a") == "bad" {
				return errors.New("a is bad")
			}
			return nil
		}})
	}()
	expect := func(want string) {
		t.Helper()
		if got := testenv.Receive(t, want, heard); got != want {
			t.Fatalf("heard %q, want %q", got, want)
		}
	}
	publish := func(s Settings) {
		t.Helper()
		_, err := Publish(path, s)
		must(t, err)
	}
	publish(of("a", `"1"`))
	expect("1")
	publish(of("a", `"1"`, "other", `"x"`))
	publish(of("a", `"1"`, "b", `"2"`))
	expect("12") // and not 1 again, of the change before
	publish(of("a", `"bad"`))
	expect("bad")
	publish(of("a", `"1"`))
	expect("1")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Follow = %v", err)
	}
	if len(heard) > 0 {
		t.Errorf("heard %q once more", <-heard)
	}
	all, err := AllTaken(path)
	must(t, err)
	if len(all["a"]) != 1 || !all["a"][0].Of(of("a", `"1"`).Values["a"]) || all["a"][0].Error != "" ||
		!all["b"][0].Of(Value{}) {
		t.Errorf("records are %+v", all)
	}
}

func TestTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	s := of("a", `"secret"`)
	must(t, Take(path, "one", s, []string{"a"}, time.Second, nil))
	must(t, Take(path, "one", s, []string{"a", "b"}, 2*time.Second, nil))
	must(t, Take(path, "two", s, []string{"a"}, 3*time.Second, errors.New("no such thing")))
	all, err := AllTaken(path)
	must(t, err)
	if got := all["a"]; len(got) != 2 || got[0].At != 1 || got[0].Daemon != "one" || got[1].Error != "no such thing" ||
		all["b"][0].At != 2 {
		t.Errorf("records are %+v", all)
	}
	if all["a"][0].Of(of("a", `"new"`).Values["a"]) {
		t.Error("a record of an old value counts for the new one")
	}
	must(t, Take(path, "three", s, []string{"a", "c"}, time.Second, fmt.Errorf("apply: %w", Fault{"c", "not now"})))
	if all, err := AllTaken(path); err != nil || all["c"][0].Error != "apply: not now" || len(all["a"]) != 3 ||
		all["a"][1].Error != "" {
		t.Errorf("the fault of one key: %+v, %v", all, err)
	}
	must(t, Take(path, "three", s, []string{"a", "b", "c"}, time.Second, errors.Join(Fault{"b", "no b"},
		Fault{"c", "no c"})))
	if all, err := AllTaken(path); err != nil || all["b"][1].Error != "no b" || all["c"][0].Error != "no c" ||
		all["a"][1].Error != "" {
		t.Errorf("the faults of two keys: %+v, %v", all, err)
	}
	must(t, os.Remove(filepath.Join(filepath.Dir(path), "taken", "three.json")))
	text, err := os.ReadFile(filepath.Join(filepath.Dir(path), "taken", "one.json"))
	if err != nil || strings.Contains(string(text), "secret") {
		t.Errorf("the record holds the value: %s, %v", text, err)
	}
	must(t, os.WriteFile(filepath.Join(filepath.Dir(path), "taken", "two.json"), []byte("{"), 0o600))
	if all, err := AllTaken(path); err == nil || len(all["a"]) != 1 {
		t.Errorf("a broken record spoils others: %+v, %v", all, err)
	}
}
