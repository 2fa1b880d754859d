package engineclient

import "testing"

func TestParseKills(t *testing.T) {
	for text, want := range map[string]int{"low 0\noom 2\noom_kill 3\noom_group_kill 9\n": 3, "": 0,
		"oom_kill -1\n": 0, "oom_kill x": 0, "oom_killer 5\n": 0} {
		if got := parseKills(text); got != want {
			t.Errorf("parseKills(%q) = %d, want %d", text, got, want)
		}
	}
}
