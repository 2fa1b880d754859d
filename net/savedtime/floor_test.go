package savedtime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"resinos/net/clockstatus"
)

func TestFloor(t *testing.T) {
	day := func(text string) time.Time {
		if text == "" {
			return time.Time{}
		}
		at, err := time.Parse(time.DateOnly, text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, tt := range []struct {
		name                   string
		build, saved, rtc, now string
		want                   string
		origin                 clockstatus.Origin
	}{
		{"nothing but the image", "2026-11-25", "", "", "1970-01-01", "2026-11-25", clockstatus.FromBuild},
		{"saved", "2026-11-25", "2026-12-01", "", "1970-01-01", "2026-12-01", clockstatus.FromSaved},
		{"saved before an update", "2026-11-25", "2026-10-01", "", "1970-01-01", "2026-11-25", clockstatus.FromBuild},
		{"rtc", "2026-11-25", "2026-12-01", "2026-12-24", "1970-01-01", "2026-12-24", clockstatus.FromRTC},
		{"rtc that the kernel has read", "2026-11-25", "2026-12-01", "2026-12-24", "2026-12-24", "2026-12-24",
			clockstatus.FromClock},
		{"rtc a little behind saved", "2026-11-25", "2026-12-25", "2026-12-24", "2026-12-24", "2026-12-25",
			clockstatus.FromSaved},
		{"rtc farther behind than it can be slow", "2026-11-25", "2026-12-26", "2026-12-24", "2026-12-24", "2026-12-24",
			clockstatus.FromClock},
		{"the same, and the kernel has not read it", "2026-11-25", "2036-12-26", "2026-12-24", "1970-01-01",
			"2026-12-24", clockstatus.FromRTC},
		{"rtc of the day of the build", "2026-11-25", "2027-03-01", "2026-11-25", "1970-01-01", "2026-11-25",
			clockstatus.FromRTC},
		{"rtc without battery", "2026-11-25", "2026-12-01", "2000-01-01", "2000-01-01", "2026-12-01",
			clockstatus.FromSaved},
		{"rtc of 2099", "2026-11-25", "2026-12-01", "2099-01-01", "2099-01-01", "2026-12-01", clockstatus.FromSaved},
		{"rtc of 2099 and nothing saved", "2026-11-25", "", "2099-01-01", "2099-01-01", "2026-11-25",
			clockstatus.FromBuild},
		{"saved of 2400", "2026-11-25", "2400-01-01", "", "1970-01-01", "2026-11-25", clockstatus.FromBuild},
		{"saved of 1901", "2026-11-25", "1901-01-01", "", "1970-01-01", "2026-11-25", clockstatus.FromBuild},
		{"saved of a wrong hand, and no rtc", "2026-11-25", "2031-01-01", "", "1970-01-01", "2031-01-01",
			clockstatus.FromSaved},
		{"clock that is right already", "2026-11-25", "2026-12-01", "", "2027-01-01", "2027-01-01",
			clockstatus.FromClock},
		{"at the edge of the horizon", "2026-11-25", "2056-11-16", "", "1970-01-01", "2056-11-16",
			clockstatus.FromSaved},
		{"beyond it", "2026-11-25", "2056-11-17", "", "1970-01-01", "2026-11-25", clockstatus.FromBuild},
		{"image of unknown age", "", "2026-12-01", "", "1970-01-01", "2026-12-01", clockstatus.FromSaved},
		{"image of unknown age, nothing else", "", "", "", "1970-01-01", "1970-01-01", clockstatus.FromClock},
	} {
		got, origin := Floor(day(tt.build), day(tt.saved), day(tt.rtc), day(tt.now))
		if got.Format(time.DateOnly) != tt.want || origin != tt.origin {
			t.Errorf("%s: Floor = %v from %s, want %s from %s", tt.name, got, origin, tt.want, tt.origin)
		}
		if b := day(tt.build); got.Before(b) {
			t.Errorf("%s: before the build", tt.name)
		}
	}
}

func TestDue(t *testing.T) {
	now := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	for saved, want := range map[time.Time]bool{
		{}:                        true,
		now:                       false,
		now.Add(-23 * time.Hour):  false,
		now.Add(-24 * time.Hour):  true,
		now.Add(30 * time.Second): false,
		now.Add(2 * time.Minute):  true,
		now.AddDate(300, 0, 0):    true,
		now.AddDate(-300, 0, 0):   true,
	} {
		if got := Due(saved, now); got != want {
			t.Errorf("Due(%v) = %v", saved, got)
		}
	}
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read of nothing = %v", err)
	}
	for _, at := range []time.Time{time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC),
		time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if err := Save(path, at); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(path); err != nil || got.Unix() != at.Unix() {
			t.Errorf("Read = %v, %v; want %v", got, err, at)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Size() != 0 {
		t.Errorf("the file is not empty: %v %v", st.Size(), err)
	}
	// What somebody put there instead is neither followed nor believed.
	other := filepath.Join(t.TempDir(), "other")
	if err := errors.Join(os.WriteFile(other, []byte("x"), 0o644), os.Remove(path),
		os.Symlink(other, path)); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(other)
	if err := Save(path, time.Unix(1, 0)); err == nil {
		t.Error("Save followed a symlink")
	}
	if _, err := Read(path); err == nil {
		t.Error("Read followed a symlink")
	}
	if after, _ := os.Stat(other); !after.ModTime().Equal(before.ModTime()) {
		t.Error("the target of the symlink was touched")
	}
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	if Save(path, time.Unix(1, 0)) == nil {
		t.Error("Save accepted a directory")
	}
}
