package health

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"resinos/containers/app"
)

// TestTook holds the states against what moby's handleProbeResult makes of the same results: each word is one check,
// ok or the second after the start at which it failed, and what it leads to is the status and the streak.
func TestTook(t *testing.T) {
	for _, c := range []struct {
		name    string
		retries int
		period  time.Duration
		results string
		want    string
	}{
		{"nothing yet", 3, 0, "", "starting 0"},
		{"first success", 3, 0, "ok", "healthy 0"},
		{"a failure while it starts", 3, 0, "10", "starting 1"},
		{"never healthy", 3, 0, "10 20 30", "unhealthy 3"},
		{"goes on to fail", 3, 0, "10 20 30 40", "unhealthy 4"},
		{"back from unhealthy with one success", 3, 0, "10 20 30 ok", "healthy 0"},
		{"healthy stays so below retries", 3, 0, "ok 20 30", "healthy 2"},
		{"a success between starts again", 3, 0, "ok 20 30 ok 40 50", "healthy 2"},
		{"healthy becomes unhealthy", 3, 0, "ok 20 30 40", "unhealthy 3"},
		{"one retry", 1, 0, "ok 20", "unhealthy 1"},
		{"within the start period", 2, time.Minute, "10 20 30 40 59", "starting 0"},
		{"the start period ends", 2, time.Minute, "10 60", "starting 1"},
		{"unhealthy after the start period", 2, time.Minute, "10 59 60 70", "unhealthy 2"},
		{"healthy within the start period ends it", 2, time.Minute, "10 ok 20 30", "unhealthy 2"},
		{"counted in the start period once healthy", 3, time.Minute, "ok 20", "healthy 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			const started = time.Hour
			check := Check{Retries: c.retries, StartPeriod: c.period}
			s := State{Started: started, Status: Starting}
			for word := range strings.FieldsSeq(c.results) {
				r := Result{Start: started, Exit: 1}
				if word == "ok" {
					r.Exit = 0
				} else if at, err := time.ParseDuration(word + "s"); err == nil {
					r.Start += at
				}
				s = s.Took(check, r)
			}
			if got := fmt.Sprint(s.Status, s.Streak); got != strings.Replace(c.want, " ", "", 1) {
				t.Errorf("%s leads to %s, want %s", c.results, got, c.want)
			}
		})
	}
}

// TestTookExits: only 0 is success; a check that could not be carried out, or hung, failed.
func TestTookExits(t *testing.T) {
	for _, exit := range []int{-1, 1, 2, 126, 127, 137, 255} {
		if s := (State{Status: Healthy}).Took(Check{Retries: 1}, Result{Exit: exit}); s.Status != Unhealthy {
			t.Errorf("exit %d leads to %s", exit, s.Status)
		}
	}
}

func TestTookLog(t *testing.T) {
	var s State
	for i := range 8 {
		before := s
		s = s.Took(Check{Retries: 3}, Result{Exit: i, Output: strings.Repeat("x", 4000+40*i)})
		if len(before.Log) > 0 && before.Log[0].Exit != max(0, i-5) {
			t.Errorf("check %d changed the state before it: %+v", i, before.Log[0].Exit)
		}
	}
	if len(s.Log) != maxLog || s.Log[0].Exit != 3 || s.Log[4].Exit != 7 {
		t.Errorf("%d results are kept, from %d to %d", len(s.Log), s.Log[0].Exit, s.Log[len(s.Log)-1].Exit)
	}
	if got := s.Log[4].Output; len(got) != maxOutput+3 || !strings.HasSuffix(got, "x...") {
		t.Errorf("a long output is kept as %d bytes that end with %q", len(got), got[len(got)-4:])
	}
	if got := cut("a\xffb"); got != "a�b" {
		t.Errorf("output that is no text: %q", got)
	}
}

func TestDue(t *testing.T) {
	const second = time.Second
	c := Check{Interval: 30 * second, StartInterval: 2 * second, StartPeriod: 10 * second, Retries: 3}
	at := func(end time.Duration) []Result { return []Result{{Start: end - second, End: end}} }
	for name, d := range map[string]struct {
		s    State
		want time.Duration
	}{
		"the first": {State{Started: 100 * second, Status: Starting}, 102 * second},
		"within the start period": {State{Started: 100 * second, Status: Starting, Log: at(109 * second)},
			111 * second},
		"after it": {State{Started: 100 * second, Status: Starting, Log: at(110 * second)},
			140 * second},
		"healthy in the start period": {State{Started: 100 * second, Status: Healthy, Log: at(103 * second)},
			133 * second},
		"unhealthy in the start period": {State{Started: 100 * second, Status: Unhealthy, Log: at(103 * second)},
			133 * second},
	} {
		if got := d.s.Due(c); got != d.want {
			t.Errorf("%s: due at %v, want %v", name, got, d.want)
		}
	}
	c.StartPeriod = 0
	if got := (State{Started: 100 * second, Status: Starting}).Due(c); got != 130*second {
		t.Errorf("without a start period: due at %v", got)
	}
}

func TestResolve(t *testing.T) {
	shell := func(line string) *app.Healthcheck { return &app.Healthcheck{Test: []string{"CMD-SHELL", line}} }
	usual := Check{Interval: 30 * time.Second, Timeout: 30 * time.Second, StartInterval: 5 * time.Second, Retries: 3}
	with := func(change func(*Check)) *Check {
		c := usual
		change(&c)
		return &c
	}
	args := func(list ...string) *Check { return with(func(c *Check) { c.Args = list }) }
	for name, c := range map[string]struct {
		want  *app.Healthcheck
		image Image
		check *Check
	}{
		"nobody says anything":      {nil, Image{}, nil},
		"a line":                    {shell("a | b"), Image{}, args("/bin/sh", "-c", "a | b")},
		"a line, the image's shell": {shell("a"), Image{Shell: []string{"bash", "-ec"}}, args("bash", "-ec", "a")},
		"a command":                 {&app.Healthcheck{Test: []string{"CMD", "a", "b c"}}, Image{}, args("a", "b c")},
		"the image's":               {nil, Image{Healthcheck: shell("i")}, args("/bin/sh", "-c", "i")},
		"the app's before it":       {shell("a"), Image{Healthcheck: shell("i")}, args("/bin/sh", "-c", "a")},
		"turned off":                {&app.Healthcheck{Test: []string{"NONE"}}, Image{Healthcheck: shell("i")}, nil},
		"turned off by the image":   {nil, Image{Healthcheck: &app.Healthcheck{Test: []string{"NONE"}}}, nil},
		"turned off, but the app has one": {shell("a"), Image{Healthcheck: &app.Healthcheck{Test: []string{"NONE"}}},
			args("/bin/sh", "-c", "a")},
		"nothing to run":        {&app.Healthcheck{Test: []string{"CMD"}}, Image{}, nil},
		"no form that is known": {nil, Image{Healthcheck: &app.Healthcheck{Test: []string{"SHELL", "x"}}}, nil},
		"times without a test":  {&app.Healthcheck{Interval: time.Second}, Image{}, nil},
		"negative times of an image": {nil, Image{Healthcheck: &app.Healthcheck{Test: []string{"CMD", "x"},
			Interval: -1,
			Timeout:  -1, StartPeriod: -1, StartInterval: -1, Retries: -1}}, args("x")},
		"the app's times for the image's test": {&app.Healthcheck{Interval: time.Second, Retries: 9},
			Image{Healthcheck: &app.Healthcheck{Test: []string{"CMD", "x"}, Interval: time.Hour, Timeout: time.Minute,
				StartPeriod: 2 * time.Minute, StartInterval: 3 * time.Second}},
			&Check{Args: []string{"x"}, Interval: time.Second, Timeout: time.Minute, StartPeriod: 2 * time.Minute,
				StartInterval: 3 * time.Second, Retries: 9}},
	} {
		if got := Resolve(c.want, c.image); !reflect.DeepEqual(got, c.check) {
			t.Errorf("%s: %+v, want %+v", name, got, c.check)
		}
	}
}

func TestParseStart(t *testing.T) {
	const stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 6 7"
	if got, err := parseStart(stat); err != nil || got != 123450*time.Millisecond {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "7 (x", "7 (x) S 1", strings.Replace(stat, "12345", "x", 1),
		strings.Replace(stat, "S", "Z", 1)} {
		if got, err := parseStart(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

// FuzzTook: whatever an output holds, what is kept of it is bounded and can be read again.
func FuzzTook(f *testing.F) {
	f.Add("fine\n", 0)
	f.Add(strings.Repeat("\x00\xff", 5000), 1)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, output string, exit int) {
		s := State{Life: "1 2", Status: Starting}
		for range 9 {
			s = s.Took(Check{Retries: 2}, Result{Exit: exit, Output: output})
		}
		if len(s.Log) > maxLog || len(s.Log[0].Output) > 3*(maxOutput+3) {
			t.Fatalf("%d results, of %d bytes", len(s.Log), len(s.Log[0].Output))
		}
		if err := save(dir+"/x.json", s); err != nil {
			t.Fatal(err)
		}
		if got, err := load(dir + "/x.json"); err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%+v became %+v, %v", s, got, err)
		}
	})
}
