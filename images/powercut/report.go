package powercut

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"resinos/images/powercut/judge"
	"resinos/images/powercut/recording"
)

// A Report says what a check found.
type Report struct {
	Board    string        `json:"board"`
	Entries  int           `json:"entries"` // of the log
	Epochs   int           `json:"epochs"`
	Seed     uint64        `json:"seed"`
	States   int           `json:"states"`   // tried
	Distinct int           `json:"distinct"` // disks that differ
	Judged   int           `json:"judged"`   // contents of regions that were looked at
	Classes  []Class       `json:"classes"`
	Sections []Tally       `json:"sections"`
	Bad      []Finding     `json:"bad"` // the first of each kind
	BadCount int           `json:"bad_count"`
	Took     time.Duration `json:"took"`
}

// A Class is one way in which the regions of a disk are found.
type Class struct {
	Region  string  `json:"region"`
	Words   string  `json:"words"`
	States  int     `json:"states"`
	Example StateID `json:"example"`
}

// A Tally counts the states of a section.
type Tally struct {
	Section string `json:"section"`
	States  int    `json:"states"`
	Bad     int    `json:"bad"`
}

// A Finding is a bad state, with how many others are bad for the same reason.
type Finding struct {
	State   StateID `json:"state"`
	Section string  `json:"section"`
	Why     string  `json:"why"`
	Count   int     `json:"count"`
}

// mostFindings bounds what a report lists.
const mostFindings = 50

// report puts the verdicts of the regions together, state by state.
func (c *checker) report() *Report {
	r := &Report{
		Board: c.recording.Board, Entries: len(c.log.Entries), Epochs: len(c.log.Epochs()), Seed: c.Effort.Seed,
		States: len(c.states), Judged: c.jobs,
	}
	distinct := map[string]bool{}
	classes := map[[2]string]*Class{}
	bad := map[[2]string]*Finding{}
	tallies := map[string]*Tally{}
	stable := keeper{facts: c.Suite.Stable, since: map[string]string{}}
	for _, s := range c.states {
		distinct[fmt.Sprint(s.sums)] = true
		section := c.recording.SectionOf(s.cut)
		whole := c.whole(s, classes)
		why := c.judge(s, whole, section, &stable)
		t := tallies[section.Name]
		if t == nil {
			t = &Tally{Section: section.Name}
			tallies[section.Name] = t
			r.Sections = append(r.Sections, *t)
		}
		t.States++
		if len(why) > 0 {
			t.Bad++
			r.BadCount++
		}
		for _, one := range why {
			key := [2]string{section.Name, one}
			if bad[key] == nil {
				bad[key] = &Finding{State: s.id, Section: section.Name, Why: one}
			}
			bad[key].Count++
		}
	}
	r.Distinct = len(distinct)
	for i, t := range r.Sections {
		r.Sections[i] = *tallies[t.Section]
	}
	r.finish(classes, bad)
	return r
}

// finish lists what was counted: classes by region, findings by frequency.
func (r *Report) finish(classes map[[2]string]*Class, bad map[[2]string]*Finding) {
	for _, one := range classes {
		r.Classes = append(r.Classes, *one)
	}
	slices.SortFunc(r.Classes, func(a, b Class) int {
		return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(b.States, a.States), cmp.Compare(a.Words, b.Words))
	})
	for _, one := range bad {
		r.Bad = append(r.Bad, *one)
	}
	slices.SortFunc(r.Bad, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Section, b.Section), cmp.Compare(a.Why, b.Why))
	})
	r.Bad = r.Bad[:min(len(r.Bad), mostFindings)]
}

// whole lays the verdicts of a state's regions together and counts their classes.
func (c *checker) whole(s seen, classes map[[2]string]*Class) judge.Verdict {
	var whole judge.Verdict
	for i, region := range c.disk.regions {
		v := c.verdicts[i][s.sums[i]]
		key := [2]string{region.Name, v.Class}
		if classes[key] == nil {
			classes[key] = &Class{Region: region.Name, Words: v.Class, Example: s.id}
		}
		classes[key].States++
		one := *v
		if one.Class = ""; one.Bad != "" {
			one.Bad = region.Name + ": " + one.Bad
		}
		whole = whole.Add(one)
	}
	return whole
}

// judge lists all that is bad about a state.
func (c *checker) judge(s seen, whole judge.Verdict, section recording.Section, stable *keeper) []string {
	var why []string
	if whole.Bad != "" {
		why = append(why, whole.Bad)
	}
	for _, rule := range c.Suite.Rules {
		if bad := rule(whole.Facts); bad != "" {
			why = append(why, bad)
		}
	}
	for _, p := range c.recording.InForce(s.cut) {
		if value := whole.Facts[p.Fact]; len(p.Values) > 0 && !slices.Contains(p.Values, value) {
			why = append(why, fmt.Sprintf("%s is %q, promised was %s", p.Fact, value, orList(p.Values)))
		}
	}
	return append(why, stable.see(whole.Facts, section.Free, s.whole)...)
}

func orList(values []string) string {
	var all []string
	for _, v := range values {
		all = append(all, fmt.Sprintf("%q", v))
	}
	return strings.Join(all, " or ")
}

// A keeper remembers the facts that were on the disk at a flush.
type keeper struct {
	facts []string
	since map[string]string
}

func (k *keeper) see(facts map[string]string, free, flush bool) (why []string) {
	for _, name := range k.facts {
		switch kept, has := k.since[name], facts[name]; {
		case free:
			delete(k.since, name)
		case kept != "" && has != kept:
			why = append(why, fmt.Sprintf("%s was on the disk and is lost or another", name))
		case flush && has != "":
			k.since[name] = has
		}
	}
	return why
}

// String prints the report for people.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d entries, %d epochs, seed %d\n%d states tried, %d distinct disks, %d contents judged, %v\n",
		r.Board, r.Entries, r.Epochs, r.Seed, r.States, r.Distinct, r.Judged, r.Took.Round(time.Second))
	b.WriteString("\nclasses\n")
	for _, c := range r.Classes {
		fmt.Fprintf(&b, "  %-15s %6d  %s (%s)\n", c.Region, c.States, c.Words, c.Example)
	}
	b.WriteString("\nsections\n")
	for _, t := range r.Sections {
		fmt.Fprintf(&b, "  %-15s %6d states, %d bad\n", t.Section, t.States, t.Bad)
	}
	if r.BadCount == 0 {
		b.WriteString("\nno bad state\n")
		return b.String()
	}
	fmt.Fprintf(&b, "\n%d bad states\n", r.BadCount)
	for _, f := range r.Bad {
		fmt.Fprintf(&b, "  %s, and %d more like it, %s: %s\n", f.State, f.Count-1, f.Section, f.Why)
	}
	return b.String()
}
