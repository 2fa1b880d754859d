package screen

import (
	"testing"
	"time"
)

func TestSpeaksUTF8(t *testing.T) {
	for want, env := range map[bool][]map[string]string{
		true:  {{"LANG": "de_DE.UTF-8"}, {"LC_ALL": "C.utf8", "LANG": "C"}},
		false: {{}, {"LANG": "C"}, {"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}},
	} {
		for _, e := range env {
			if got := speaksUTF8(func(name string) string { return e[name] }); got != want {
				t.Errorf("speaksUTF8(%v) = %v", e, got)
			}
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{-1: "-", 0: "0", 1023: "1023", 1024: "1.0K", 10 << 10: "10K",
		999 << 10: "999K", 1000 << 10: "1.0M", 1 << 40: "1.0T", 1 << 62: "4194304T"} {
		if got := Size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("plain")
	f.Add("\x1b[31m\xff\u202e")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range Escape(text) {
			if !printable(r) {
				t.Errorf("escape(%q) = %q", text, Escape(text))
			}
		}
	})
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 999 * time.Millisecond: "0s", 59 * time.Second: "59s", time.Minute: "1min",
		61 * time.Second: "1min 1s", 3*time.Hour + 59*time.Second: "3h", 49*time.Hour + 59*time.Minute: "2d 1h",
	} {
		if got := Ago(d); got != want {
			t.Errorf("ago(%v) = %q, want %q", d, got, want)
		}
	}
}
