package proc

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"resinos/mounts/testenv"
)

// The test binary runs itself as PID 1 of a new pid namespace, playing the scene that this
// variable names.
const sceneVariable = "RESINOS_PROC_SCENE"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		child(os.Args[2:])
		return
	}
	name := os.Getenv(sceneVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	scene, ok := scenes[name]
	if !ok || os.Getpid() != 1 {
		fmt.Println("no such scene, or not PID 1")
		os.Exit(2)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fmt.Println("mount proc:", err)
		os.Exit(2)
	}
	if err := scene(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// asInit plays a scene as PID 1 and returns what it printed.
func asInit(t *testing.T, scene string) string {
	t.Helper()
	testenv.NeedRoot(t, "a pid namespace")
	// os/exec is right here: this process runs no Reaper, the scene's does.
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), sceneVariable+"="+scene)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Unshareflags: syscall.CLONE_NEWNS}
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("scene %s: %v\n%s", scene, err, out)
	}
	t.Logf("scene %s: %s\n%s", scene, time.Since(begin).Round(time.Millisecond), out)
	return string(out)
}

func TestStorm(t *testing.T)       { asInit(t, "storm") }
func TestDaemons(t *testing.T)     { asInit(t, "daemons") }
func TestExitCodes(t *testing.T)   { asInit(t, "codes") }
func TestInheritance(t *testing.T) { asInit(t, "inheritance") }
func TestFailures(t *testing.T)    { asInit(t, "failures") }
func TestManyDeaths(t *testing.T)  { asInit(t, "deaths") }
func TestOOMScore(t *testing.T)    { asInit(t, "oom") }

func TestAdopt(t *testing.T) { asInit(t, "adopt") }

func TestDeaf(t *testing.T) {
	if out := asInit(t, "deaf"); strings.Contains(out, "lacking") {
		testenv.Lacking(t, "a file system that hangs: %s", out)
	}
}

func TestParseStat(t *testing.T) {
	line := "12 (a) Z b) S 7 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1"
	if got, err := parseStat(line); err != nil || got != (stat{parent: 7, session: 12, started: 98765}) {
		t.Errorf("parseStat = %+v, %v", got, err)
	}
	for _, bad := range []string{"", "1", "1 (x) S", "1 (x) S y 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 z 1"} {
		if got, err := parseStat(bad); err == nil {
			t.Errorf("parseStat(%q) = %+v", bad, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("12 (a) Z b) S 7 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := parseStat(text); err != nil && s != (stat{}) {
			t.Errorf("parseStat(%q) = %+v, %v", text, s, err)
		}
	})
}

func TestStatusWords(t *testing.T) {
	for ws, want := range map[syscall.WaitStatus]string{
		0: "exit code 0", 3 << 8: "exit code 3", 9: "killed by signal 9", 6 | 0x80: "killed by signal 6, core dumped",
	} {
		if got := (Status{Wait: ws}).String(); got != want {
			t.Errorf("Status(%#x) = %q, want %q", uint32(ws), got, want)
		}
	}
	if (Status{Wait: 9}).OK() || !(Status{}).OK() {
		t.Error("OK is wrong")
	}
}

// zombies lists the dead that nobody took.
func zombies() []string {
	var list []string
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if e.Name()[0] < '0' || e.Name()[0] > '9' {
			continue
		}
		data, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err == nil && strings.Contains(string(data), ") Z ") {
			list = append(list, e.Name())
		}
	}
	return list
}
