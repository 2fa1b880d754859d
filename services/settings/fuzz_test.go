package settings

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzRead: whatever is published, the values of the kinds are read without a panic, and what was read is published and
// read again unchanged.
func FuzzRead(f *testing.F) {
	f.Add(
		[]byte(
			`{"source":"file","values":{"text":{"value":"a","from":"file"},"list":{"value":["x"],"from":"default"}}}`),
		"text")
	f.Add([]byte(`{"values":{"flag":{"value":true},"number":{"value":7},"table":{"value":{"n":"t"}}},"unknown":["x"]}`),
		"number")
	f.Add([]byte(`{"values":{"a":{"value":null},"b":{}}}`), "b")
	f.Add([]byte(`null`), "")
	f.Add([]byte("{half"), "a")
	path := filepath.Join(inMemory(f), "config.json")
	f.Fuzz(func(t *testing.T, text []byte, key string) {
		must(t, os.WriteFile(path, text, 0o600))
		s, err := Read(path)
		if err != nil {
			return
		}
		s.Text(key)
		s.Flag(key)
		s.Number(key)
		s.List(key)
		s.Table(key)
		_, err = Publish(path, s)
		must(t, err)
		again, err := Read(path)
		must(t, err)
		if changed, err := Publish(path, again); changed || err != nil {
			t.Errorf("settings %q: published, read and published again: %v, %v", text, changed, err)
		}
		for name := range s.Values {
			// Without a value, "value":null is what is written.
			if old := s.Values[name].JSON; !again.Same(s, []string{name}) && len(old) > 0 &&
				!compacts(old, again.Values[name].JSON) {
				t.Errorf("settings %q: %q is %s, and then %s", text, name, old, again.Values[name].JSON)
			}
		}
	})
}

// inMemory is a directory on a tmpfs, if this host has one: as settings are on a device, and so that the fuzzer need
// not wait for a disk.
func inMemory(f *testing.F) string {
	dir, err := os.MkdirTemp("/dev/shm", "resinos-fuzz-")
	if err != nil {
		return f.TempDir()
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// compacts reports whether b is a as Publish writes it: without white space, and with HTML's characters escaped.
func compacts(a, b []byte) bool {
	want, err := json.Marshal(json.RawMessage(a))
	return err == nil && bytes.Equal(want, b)
}

// FuzzTaken: whatever a record holds, all records are read without a panic, and the daemon it belongs to records again
// over it.
func FuzzTaken(f *testing.F) {
	f.Add([]byte(`{"a":{"daemon":"one","digest":"00","at":1.5}}`))
	f.Add([]byte(`{"a":{"daemon":"one","at":1,"error":"why"},"b":{}}`))
	f.Add([]byte(`null`))
	f.Add([]byte("{"))
	path := filepath.Join(inMemory(f), "config.json")
	must(f, os.MkdirAll(takenDir(path), 0o700))
	file := filepath.Join(takenDir(path), "one.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		must(t, os.WriteFile(file, text, 0o600))
		_, _ = AllTaken(path) // garbage is an error, and no panic
		s := of("a", `"x"`)
		must(t, Take(path, "one", s, []string{"a"}, time.Second, nil))
		all, err := AllTaken(path)
		must(t, err)
		if got := all["a"]; len(got) != 1 || !got[0].Of(s.Values["a"]) || got[0].Error != "" {
			t.Errorf("over %q the record is %+v", text, got)
		}
	})
}
