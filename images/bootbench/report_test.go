package bootbench

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// The names of the machines.
const (
	regularName = "ours, regular boot"
	firstName   = "ours, first boot"
	peerName    = "bare script"
	tunedName   = "bare script, our kernel arguments"
	debianName  = "bare script, containerd and runc as Debian sets them up"
)

// A report is what the bench says.
type report struct {
	Counted  bool                          `json:"instructions"` // else seconds of the guest's clock
	Packages []string                      `json:"peer_packages"`
	Machines []string                      `json:"machines"`
	Medians  map[string]map[string]float64 `json:"medians"`
	Samples  map[string][]sample           `json:"samples"`
}

func newReport(machines []machine, samples map[string][]sample, packages []string, counted bool) report {
	r := report{Counted: counted, Packages: packages, Medians: map[string]map[string]float64{}, Samples: samples}
	for _, m := range machines {
		r.Machines = append(r.Machines, m.name)
		r.Medians[m.name] = map[string]float64{}
		for _, mark := range marks {
			if v, found := median(samples[m.name], mark); found {
				r.Medians[m.name][mark] = v
			}
		}
	}
	return r
}

// marks are the columns of the table, in order.
var marks = []string{markRoot, markServices, markEngine, markLease, markOutput, markUsed}

// median is that of a mark over all samples that have it.
func median(samples []sample, mark string) (value float64, found bool) {
	var all []float64
	for _, s := range samples {
		if v, has := s[mark]; has {
			all = append(all, v)
		}
	}
	if len(all) == 0 {
		return 0, false
	}
	slices.Sort(all)
	return all[len(all)/2], true
}

// table has a row for each machine. In brackets is the ratio to the output of the bare script, or to its memory.
func (r report) table() string {
	var b strings.Builder
	unit := "s"
	if r.Counted {
		unit = "million instructions"
	}
	fmt.Fprintf(&b, "\n%s since the kernel's start (of the bare script's output); used kB (of the script's)\n", unit)
	out := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "median\t%s\n", strings.Join(marks, "\t"))
	for _, name := range r.Machines {
		fmt.Fprint(out, name)
		for _, mark := range marks {
			fmt.Fprint(out, "\t", r.cell(name, mark))
		}
		fmt.Fprintln(out)
	}
	_ = out.Flush() // a Builder takes everything
	return b.String()
}

func (r report) cell(name, mark string) string {
	v, found := r.Medians[name][mark]
	if !found {
		return "-"
	}
	text := fmt.Sprintf("%.2f", v)
	if r.Counted || mark == markUsed {
		text = fmt.Sprintf("%.0f", v)
	}
	of := markOutput
	if mark == markUsed {
		of = markUsed
	}
	if whole := r.Medians[peerName][of]; whole > 0 {
		text += fmt.Sprintf(" (%.2f)", v/whole)
	}
	return text
}

func TestParseMark(t *testing.T) {
	for line, want := range map[string]string{
		"resinos: root 10.88s":                    "root 10.88",
		"bench: container_output 9.5s":            "container_output 9.5",
		"resinos: service up service=logd pid=12": "",
		"resinos: step 1/25 root 17ms":            "",
		"resin:/# resinos: lease 22.61s":          "lease 22.61",
		"resinos: lease ..s":                      "",
	} {
		got := ""
		if mark, seconds, found := parseMark(line); found {
			got = fmt.Sprint(mark, " ", seconds)
		}
		if got != want {
			t.Errorf("parseMark(%q) = %q, want %q", line, got, want)
		}
	}
}

func TestWatcherHandsOverWholeLines(t *testing.T) {
	w := &watcher{lines: make(chan string, 2)}
	for _, part := range []string{"resinos: ro", "ot 1.0s\r\nsec", "ond\n", "third\n"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	if a, b := <-w.lines, <-w.lines; a != "resinos: root 1.0s" || b != "second" {
		t.Errorf("lines %q, %q", a, b)
	}
	select {
	case line := <-w.lines:
		t.Errorf("line %q, want it lost: there was no place for it", line)
	default:
	}
}

func TestReport(t *testing.T) {
	samples := map[string][]sample{
		regularName: {{markOutput: 7, markUsed: 60000}, {markOutput: 6, markUsed: 50000}, {markOutput: 5}},
		peerName:    {{markOutput: 12, markUsed: 40000}},
	}
	r := newReport([]machine{{name: regularName}, {name: peerName}}, samples, nil, false)
	for _, want := range []string{"6.00 (0.50)", "60000 (1.50)", "12.00 (1.00)", "-"} {
		if !strings.Contains(r.table(), want) {
			t.Errorf("table lacks %q:\n%s", want, r.table())
		}
	}
}
