package updating

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"resinos/bsp/bootvars"
	"resinos/bsp/slot"
	"resinos/bsp/update"
	"resinos/init/cmdline"
	"resinos/init/osctl/cli"
	"resinos/init/osctl/screen"
	"resinos/services/osrelease"
)

// standing is what the status shows as JSON.
type standing struct {
	Running   string                       `json:"running"` // version
	Slot      slot.Name                    `json:"slot"`    // that was booted
	State     update.State                 `json:"state,omitempty"`
	OnTrial   bool                         `json:"on_trial"`
	Try       slot.Name                    `json:"try"` // of the boot variables
	Tries     string                       `json:"tries"`
	Index     int64                        `json:"rollback_index"`
	Slots     map[slot.Name]update.Content `json:"slots"`
	Refused   []update.Content             `json:"refused"`
	Last      *update.Attempt              `json:"last,omitempty"`
	Corrected []string                     `json:"corrected,omitempty"` // what is not as it is recorded
}

// look reads how the update stands, without writing anything.
func (s *session) look(ctx context.Context) (st standing, err error) {
	line, err := cmdline.Parse(s.Read("/proc/cmdline"))
	if err == nil && line.Slot == "" {
		err = errors.New("there is no resinos.slot=")
	}
	if err != nil {
		return st, cli.Advise(fmt.Errorf("the command line does not say which slot was booted: %w", err),
			"osctl works on a resinOS device only")
	}
	_, v, err := update.ReadVariables(filepath.Join(s.Root, update.BootDir))
	if err != nil {
		return st, cli.Advise(err, "try: osctl verify boot")
	}
	r, err := update.Read(filepath.Join(s.Root, update.Path))
	if err != nil {
		st.Corrected = append(st.Corrected, err.Error())
	}
	st.Running = osrelease.Parse(s.Read(osrelease.Path), "VERSION_ID")
	settled := update.Settle(r, update.Facts{
		Booted: slot.Name(line.Slot), Running: st.Running,
		BootID:    strings.TrimSpace(s.Read("/proc/sys/kernel/random/boot_id")),
		Variables: v, Busy: update.Held(filepath.Join(s.Root, update.WritingPath)), Last: s.lastBoot(ctx),
		Now: s.Wall(),
	})
	r = settled.Record
	st.Slot, st.OnTrial, st.Try, st.Tries, st.Index = slot.Name(line.Slot), settled.OnTrial, v.Try, v.Tries, r.Index
	st.Slots, st.Refused, st.Corrected = r.Slots, r.Refused, append(st.Corrected, settled.Says...)
	if len(r.Attempts) > 0 {
		st.Last, st.State = &r.Attempts[0], r.Attempts[0].State
	}
	return st, nil
}

func (s *session) lastBoot(ctx context.Context) update.LastBoot {
	report, err := s.Client().Boot(ctx)
	if err != nil || report.Last == nil {
		return update.LastBoot{} // the reason of a failure then says less
	}
	return update.LastBoot{How: report.Last.How, Why: report.Last.Why, BootID: report.Last.BootID,
		Later: report.Last.Later}
}

func (s *session) status(ctx context.Context) error {
	st, err := s.look(ctx)
	if err != nil {
		return err
	}
	if s.json {
		return s.PrintJSON(st)
	}
	rows := [][]screen.Cell{
		screen.Pair("runs", fmt.Sprintf("version %s in slot %s", st.Running, st.Slot), screen.Plain),
		screen.Pair("other slot", s.otherSlot(st), screen.Plain),
	}
	text, colour := st.text()
	rows = append(rows, screen.Pair("update", text, colour))
	for _, c := range st.Refused {
		rows = append(rows, screen.Pair("refused", fmt.Sprintf("version %s, %.12s", c.Version, c.Digest), screen.Plain))
	}
	for _, line := range st.Corrected {
		rows = append(rows, screen.Pair("to correct", line, screen.Yellow))
	}
	_, err = fmt.Fprint(s.Stdout, s.Table(rows))
	return err
}

func (s *session) otherSlot(st standing) string {
	if c, whole := st.Slots[st.Slot.Other()]; whole {
		return fmt.Sprintf("version %s in slot %s", c.Version, st.Slot.Other())
	}
	return fmt.Sprintf("slot %s holds no version that is known to be whole", st.Slot.Other())
}

// text says in one line how the update stands.
func (st standing) text() (string, screen.Colour) {
	a := st.Last
	switch {
	case a == nil:
		return "none so far", screen.Plain
	case a.State == update.Writing:
		return fmt.Sprintf("version %s is being written to slot %s", a.Version, a.Slot), screen.Yellow
	case st.OnTrial:
		return fmt.Sprintf("version %s is on trial, %s more tries of %s", st.Running, st.Tries, bootvars.MostTries),
			screen.Yellow
	case a.State == update.Trial:
		return fmt.Sprintf("version %s is installed, the next boot tries it", a.Version), screen.Yellow
	case a.State == update.Failed:
		return fmt.Sprintf("version %s failed %s: %s", a.Version, day(a.Ended), a.Reason), screen.Red
	}
	return fmt.Sprintf("version %s was confirmed %s", a.Version, day(a.Ended)), screen.Green
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

func (s *session) history() error {
	r, err := update.Read(filepath.Join(s.Root, update.Path))
	if err != nil {
		return cli.Advise(err, "try: osctl update status")
	}
	if s.json {
		if r.Attempts == nil {
			r.Attempts = []update.Attempt{}
		}
		return s.PrintJSON(r.Attempts)
	}
	if len(r.Attempts) == 0 {
		_, err := fmt.Fprintln(s.Stdout, "no update so far")
		return err
	}
	for _, a := range r.Attempts {
		fmt.Fprintf(s.Stdout, "%s  %s -> %s, slot %s: %s\n", day(a.Began), word(a.From), word(a.Version), a.Slot,
			a.State)
		if a.Reason != "" {
			fmt.Fprintf(s.Stdout, "    %s\n",
				strings.TrimSpace(string(a.Cause)+": "+strings.ReplaceAll(screen.EscapeLines(a.Reason), "\n",
					"\n    ")))
		}
		for _, line := range a.Log {
			fmt.Fprintf(s.Stdout, "    | %s\n", screen.Escape(line))
		}
	}
	return nil
}

func word(version string) string {
	if version == "" {
		return "?"
	}
	return screen.Escape(version)
}
