package placard

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"resinos/bsp/update"
	"resinos/containers/appstatus"
	"resinos/init/ownaddress"
	"resinos/services/osrelease"
	"resinos/services/pid1"
)

// Facts is what the placard tells. A zero field is not known, or there is none.
type Facts struct {
	Host, Version, Variant string
	Addresses              []netip.Addr // as ownaddress has them
	Apps                   []appstatus.App
	Update                 *update.Attempt // the latest
	Problems               []string        // each begins with "!"
}

// Observe collects the facts of the device whose root directory is root. It leaves out what it cannot find.
func Observe(ctx context.Context, root string) Facts {
	f := Facts{Version: osrelease.Value("VERSION_ID"), Variant: osrelease.Variant()}
	f.Host, _ = os.Hostname()
	f.Addresses = ownaddress.Read()
	if apps, err := appstatus.Read(filepath.Join(root, appstatus.Path)); err == nil {
		f.Apps = apps.Apps
		if apps.Cause != "" {
			f.Problems = append(f.Problems, "! apps: "+apps.Reason)
		}
	}
	if record, err := update.Read(filepath.Join(root, update.Path)); err == nil && len(record.Attempts) > 0 {
		f.Update = &record.Attempts[0]
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	services, err := pid1.Client{}.Status(ctx)
	if err != nil {
		return f
	}
	for _, s := range services {
		if s.State == "failed" || s.State == "backoff" {
			f.Problems = append(f.Problems, fmt.Sprintf("! %s: %s", s.Name, s.State))
		}
	}
	return f
}

// free are the rows between the placard and its last line, for what the kernel writes.
const free = 2

// Lines returns what a terminal of this size shows: at most rows lines of at most columns characters. If there is too
// much, apps that are well give way first, then problems; the last line says what a key does.
func (f Facts) Lines(columns, rows int) []string {
	lines := []string{f.Host, strings.TrimSpace("resinOS " + f.Version + " " + f.Variant)}
	for i, a := range f.Addresses {
		if i < 2 {
			lines = append(lines, a.String())
		}
	}
	if len(f.Addresses) == 0 {
		lines = append(lines, "no address yet")
	}
	lines = append(lines, f.update())
	ill, well := f.apps()
	const last = "a key starts a shell"
	room := max(0, rows-len(lines)-1-free)
	lines = append(lines, fill(wrap(append(ill, f.Problems...), columns, room-len(well)), well, room)...)
	for len(lines) < rows-1 {
		lines = append(lines, "")
	}
	lines = append(lines[:max(0, min(len(lines), rows-1))], last)
	for i := range lines {
		lines[i] = cut(lines[i], columns)
	}
	return lines
}

// apps tells of the apps and containers that something is wrong with, and of the other apps.
func (f Facts) apps() (ill, well []string) {
	if len(f.Apps) == 0 {
		well = append(well, "no apps")
	}
	for _, a := range f.Apps {
		if !a.Wrong() {
			well = append(well, fmt.Sprintf("  %s: %s", a.Name, a.State))
			continue
		}
		before := len(ill)
		for _, c := range a.Containers {
			if c.Wrong() {
				ill = append(ill, problem(a.Name+"."+c.Name, c.Trouble))
			}
		}
		if len(ill) == before { // it is not of a container
			ill = append(ill, problem(a.Name, a.Trouble))
		}
	}
	return ill, well
}

// problem is the reason, which is for people. An older status has none.
func problem(name string, t appstatus.Trouble) string {
	if t.Reason == "" {
		return fmt.Sprintf("! %s: %s", name, t.Cause)
	}
	return fmt.Sprintf("! %s: %s", name, t.Reason)
}

func (f Facts) update() string {
	if f.Update == nil {
		return "never updated"
	}
	at := f.Update.Ended
	if at.IsZero() {
		at = f.Update.Began
	}
	line := fmt.Sprintf("update %s: %s %s", f.Update.Version, f.Update.State, at.UTC().Format(time.DateOnly))
	if f.Update.State == update.Failed {
		line = "! " + line
	}
	return line
}

// again begins each further line of a problem.
const again = "    "

// wrap continues problems that are too long in further lines, each in one before any in two, while all have room.
func wrap(problems []string, columns, room int) []string {
	parts := make([][]string, len(problems))
	spare := room - len(problems)
	for more := true; more; {
		more = false
		for i, text := range problems {
			if parts[i] == nil {
				parts[i] = []string{text}
			}
			last := len(parts[i]) - 1
			letters := []rune(parts[i][last])
			if len(letters) <= columns || spare <= 0 || columns <= len(again) {
				continue
			}
			head, tail := string(letters[:columns]), again+string(letters[columns:])
			parts[i] = append(parts[i][:last], head, tail)
			spare--
			more = true
		}
	}
	return slices.Concat(parts...)
}

// fill returns at most room lines, the urgent ones first. If not all fit, the last line counts the others.
func fill(urgent, others []string, room int) []string {
	all := append(append([]string{}, urgent...), others...)
	if len(all) <= room {
		return all
	}
	if room == 0 {
		return nil
	}
	return append(all[:room-1], fmt.Sprintf("and %d more: osctl status", len(all)-room+1))
}

// cut makes a text fit, and harmless for a terminal.
func cut(text string, columns int) string {
	letters := []rune(text)
	for i, r := range letters {
		if !unicode.IsPrint(r) || r > 0xff { // the fonts of consoles have no more
			letters[i] = '?'
		}
	}
	if len(letters) > columns {
		letters = append(letters[:max(0, columns-1)], '>')[:columns]
	}
	return string(letters)
}
