package confine

import (
	"slices"
	"strings"
	"testing"

	"resinos/services/spec"
)

func TestFindUser(t *testing.T) {
	const text = "# a comment\nbroken:x:1\nbad:x:-1:5::/:\nmax:x:4294967295:1::/:\n7:x:9:9::/seven:\n" +
		"web:x:7:8:Web::/bin/false\r\nlast:x:3:4::/l:"
	for who, want := range map[string]account{
		"web":  {"web", "/", 7, 8, true},
		"7":    {"7", "/seven", 9, 9, true}, // a name before a number
		"9":    {"7", "/seven", 9, 9, true},
		"last": {"last", "/l", 3, 4, true},
		"bad":  {}, "max": {}, "broken": {}, "": {}, "4294967295": {}, "+7": {}, "-1": {},
	} {
		if got, found := findUser(text, who); got != want || found != want.known {
			t.Errorf("findUser(%q) = %+v, %t, want %+v", who, got, found, want)
		}
	}
}

func TestGroups(t *testing.T) {
	const text = "root:x:0:\nvideo:x:44:web,other\nx:x:y:web\nshort:x:1\naudio:x:29:otherweb,web\n"
	if got := groupsOf(text, "web"); !slices.Equal(got, []uint32{44, 29}) {
		t.Errorf("groupsOf = %v", got)
	}
	for who, want := range map[string]uint32{"audio": 29, "root": 0, "100": 100} {
		if got, err := lookupGroup(text, who); got != want || err != nil {
			t.Errorf("lookupGroup(%s) = %d, %v", who, got, err)
		}
	}
	for _, who := range []string{"x", "short", "", "-5", "4294967295"} {
		if got, err := lookupGroup(text, who); err == nil {
			t.Errorf("lookupGroup(%q) = %d", who, got)
		}
	}
}

func TestUserEnvironment(t *testing.T) {
	web := account{name: "web", home: "/srv"}
	for _, c := range []struct{ in, want []string }{
		{[]string{"PATH=/bin", "HOME=/root"}, []string{"PATH=/bin", "HOME=/srv", "USER=web", "LOGNAME=web"}},
		{[]string{"HOME=/mine", "USER=me"}, []string{"HOME=/mine", "USER=me", "LOGNAME=web"}},
		{nil, []string{"HOME=/srv", "USER=web", "LOGNAME=web"}},
	} {
		if got := userEnvironment(c.in, web); !slices.Equal(got, c.want) {
			t.Errorf("userEnvironment(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

func TestNeeded(t *testing.T) {
	plain := Launch{Command: []string{"/bin/true"}, Confinement: spec.Confinement{Propagation: spec.Slave}}
	if plain.Needed() {
		t.Error("a plain start needs a launch")
	}
	for _, change := range []func(*Launch){
		func(l *Launch) { l.User = "web" }, func(l *Launch) { l.Group = "web" }, func(l *Launch) {
			l.Groups = []string{
				"web"}
		},
		func(l *Launch) { l.Listen = 1 },
		func(l *Launch) { l.Confinement.PrivateTmp = true }, func(l *Launch) {
			l.Confinement.ReadOnlyPaths = []string{
				"/"}
		},
		func(l *Launch) { l.Confinement.HiddenPaths = []string{"/"} }, func(
			l *Launch) {
			l.Confinement.MountNamespace = true
		},
		func(l *Launch) { l.Confinement.Bounded = true }, func(l *Launch) { l.Confinement.NoNewPrivileges = true },
		func(l *Launch) { l.Confinement.Seccomp = "strict" }, func(l *Launch) { l.Confinement.Nice = -1 },
		func(l *Launch) { l.Confinement.Rlimits = map[string]spec.Rlimit{"core": {}} },
	} {
		l := plain
		if change(&l); !l.Needed() {
			t.Errorf("needs no launch: %+v", l)
		}
	}
}

func TestExitText(t *testing.T) {
	for code := range 256 {
		if got := ExitText(code); (got != "") != (code >= exitOrders && code < exitEnd) {
			t.Errorf("ExitText(%d) = %q", code, got)
		}
	}
}

func FuzzAccounts(f *testing.F) {
	f.Add(passwd, groups, "web")
	f.Add("a:x:1:1:::", "b:x:2:a,a", "1")
	f.Add(":::::::\n", ":::", "")
	f.Fuzz(func(t *testing.T, passwd, groups, who string) {
		a, found := findUser(passwd, who)
		if number, numeric := id(who); found && a.name != who && (!numeric || a.uid != number) {
			t.Errorf("findUser(%q) = %+v", who, a)
		}
		if found && (a.home == "" || a.uid == 1<<32-1 || a.gid == 1<<32-1) {
			t.Errorf("findUser(%q) = %+v", who, a)
		}
		groupsOf(groups, who)
		lookupGroup(groups, who)
	})
}

func FuzzOrders(f *testing.F) {
	full := Launch{
		Command: []string{"/bin/x", "-v"}, User: "web", Group: "web", Groups: []string{"video"}, Listen: 2,
		Names: []string{"a", "b"}, Watchdog: 5,
		Confinement: spec.Confinement{PrivateTmp: true, Capabilities: []string{"CAP_CHOWN"}, Bounded: true,
			Rlimits: map[string]spec.Rlimit{"core": {Hard: spec.Infinity}}},
	}
	text, err := full.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(`{"Command":["/x"]}{}`)
	f.Add(`{"Command":["x"]}`)
	f.Add(`{"Command":["/x"],"Nice":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		l, err := decode(text)
		if err != nil {
			return
		}
		again, err := l.Encode()
		if err != nil {
			return // grown beyond what an environment takes
		}
		if l2, err := decode(again); err != nil {
			t.Errorf("decode(Encode(%+v)) = %+v, %v", l, l2, err)
		} else if third, _ := l2.Encode(); third != again {
			t.Errorf("%s and %s", again, third)
		}
	})
}

func TestEncodeRefuses(t *testing.T) {
	command := []string{"/bin/x"}
	for text, l := range map[string]Launch{
		"no absolute path":        {Command: []string{"x"}},
		"a negative count":        {Command: command, Listen: -1},
		"the kernel takes 131056": {Command: []string{"/bin/x", strings.Repeat("x", 1<<17)}},
	} {
		if _, err := l.Encode(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("Encode: %v, want %q", err, text)
		}
	}
	if _, err := decode(`{"Command":["/x"]} {}`); err == nil {
		t.Error("decode takes two orders")
	}
}
