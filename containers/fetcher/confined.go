package fetcher

import (
	"fmt"
	"os"
	"syscall"

	"resinos/services/confine"
	"resinos/services/spec"
)

// User is the number of the user fetcher in /etc/passwd, which nobody else is.
const User = 75

// hidden is what belongs to the owner and the apps, and is behind a network's reach at no time.
var hidden = [...]string{
	"-/mnt/boot", "-/mnt/state", "-/mnt/data", "-/run/containerd", "-/run/resinos/log", "-/etc/ssh",
}

// Confine takes from a process of root, born in a mount namespace of its own, all that a fetcher does not need: first
// the view of the owner's files, then root, then all system calls but those for the network, memory and threads. It
// opens connections and reads /etc for names and certificates; nothing else is left. The kernel ends it before all that
// the device itself needs when memory runs out.
func Confine() error {
	if os.Geteuid() != 0 {
		return nil // it has nothing to give up
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0); err != nil {
		return err
	}
	view := spec.Confinement{HiddenPaths: hidden[:], Propagation: spec.Private}
	if err := adopt(view); err != nil {
		return err
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("leave groups: %w", err)
	}
	if err := syscall.Setresgid(User, User, User); err != nil {
		return fmt.Errorf("become group %d: %w", User, err)
	}
	if err := syscall.Setresuid(User, User, User); err != nil {
		return fmt.Errorf("become user %d: %w", User, err)
	}
	return adopt(spec.Confinement{Bounded: true, NoNewPrivileges: true, Seccomp: "strict"})
}

func adopt(c spec.Confinement) error {
	orders, err := confine.Launch{Command: []string{"/proc/self/exe"}, Confinement: c}.Encode()
	if err != nil {
		return err
	}
	if err := os.Setenv(confine.Variable, orders); err != nil {
		return err
	}
	if code := confine.Adopt(); code != 0 {
		return fmt.Errorf("%s", confine.ExitText(code))
	}
	return nil
}
