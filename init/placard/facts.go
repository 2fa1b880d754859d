package placard

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"resinos/bsp/update"
	"resinos/containers/appstatus"
	"resinos/services/osrelease"
	"resinos/services/pid1"
)

// Facts is what the placard tells. A zero field is not known, or there is none.
type Facts struct {
	Host, Version, Variant string
	Addresses              []netip.Addr // of the network, without link-local ones
	Apps                   []appstatus.App
	Update                 *update.Attempt // the latest
	Problems               []string        // each begins with "!"
}

// Observe collects the facts of the device whose root directory is root. It leaves out what it cannot find.
func Observe(ctx context.Context, root string) Facts {
	f := Facts{Version: osrelease.Value("VERSION_ID"), Variant: osrelease.Variant()}
	f.Host, _ = os.Hostname()
	addresses, _ := net.InterfaceAddrs()
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap().IsGlobalUnicast() {
				f.Addresses = append(f.Addresses, ip.Unmap())
			}
		}
	}
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
	lines = append(lines, fill(append(ill, f.Problems...), well, room)...)
	for len(lines) < rows-1 {
		lines = append(lines, "")
	}
	lines = append(lines[:max(0, min(len(lines), rows-1))], last)
	for i := range lines {
		lines[i] = cut(lines[i], columns)
	}
	return lines
}

// apps tells of the apps that something is wrong with, and of the others.
func (f Facts) apps() (ill, well []string) {
	if len(f.Apps) == 0 {
		well = append(well, "no apps")
	}
	for _, a := range f.Apps {
		if a.Cause != "" {
			ill = append(ill, fmt.Sprintf("! %s: %s", a.Name, a.Cause))
		} else {
			well = append(well, fmt.Sprintf("  %s: %s", a.Name, a.State))
		}
	}
	return ill, well
}

func (f Facts) update() string {
	if f.Update == nil {
		return "never updated"
	}
	at := f.Update.Ended
	if at.IsZero() {
		at = f.Update.Began
	}
	return fmt.Sprintf("update %s: %s %s", f.Update.Version, f.Update.State, at.UTC().Format(time.DateOnly))
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
