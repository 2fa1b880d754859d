package operation

import (
	"fmt"

	"resinos/services/control"
	"resinos/services/spec"
	"resinos/services/supervise/lifecycle"
)

// Unknown refuses an operation on a service that does not exist.
func Unknown(name string) error {
	if name == "" {
		return &control.Error{Text: "no service named", Hint: `give {"name": …}`}
	}
	return &control.Error{Text: fmt.Sprintf("no service %.80q", name), Hint: "try: osctl status"}
}

// UnknownSignal refuses a signal that does not exist.
func UnknownSignal(name string) error {
	return &control.Error{Text: fmt.Sprintf("no signal %.20q", name), Hint: "use a name: TERM, HUP, KILL"}
}

// Unfit refuses to start a service that cannot run at all, for the reason why.
func Unfit(sp *spec.Spec, why string) error {
	if sp.Masked {
		return &control.Error{Text: "service " + sp.Name + " is masked", Hint: "try: osctl unmask " + sp.Name}
	}
	return &control.Error{
		Text: fmt.Sprintf("service %s cannot run: %s", sp.Name, why), Hint: "mend its file, then: osctl rescan",
	}
}

// NoProcess refuses to signal a service that does not run.
func NoProcess(name string) error {
	return &control.Error{Text: "service " + name + " has no process", Hint: "try: osctl start " + name}
}

// Failed is the answer to a change that was tried and failed with err.
func Failed(name string, err error) error {
	return &control.Error{Text: err.Error(), Hint: "try: osctl logs -u " + name}
}

// Reloadable returns nil if a service in phase p can read its configuration again, else it refuses.
func Reloadable(sp *spec.Spec, p lifecycle.Phase) error {
	switch {
	case !reloads(sp):
		return &control.Error{
			Text: "service " + sp.Name + " cannot be reloaded: its file says neither reload-signal nor reload-command",
			Hint: "try: osctl restart " + sp.Name,
		}
	case p != lifecycle.Up:
		return &control.Error{
			Text: fmt.Sprintf("service %s is %s, not up", sp.Name, p), Hint: "try: osctl start " + sp.Name,
		}
	}
	return nil
}

func reloads(sp *spec.Spec) bool { return sp.ReloadSignal != "" || len(sp.ReloadCommand) > 0 }
