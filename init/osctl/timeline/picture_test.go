package timeline

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"resinos/init/osctl/cli"
	"resinos/init/osctl/cli/clitest"
	"resinos/init/osctl/picture/picturetest"
	"resinos/services/bootreport"
)

// TestPictureGolden: the boot of the device of all tests, byte for byte, and what cannot be asked for.
func TestPictureGolden(t *testing.T) {
	commands := clitest.Commands(map[string]cli.Run{"boot": Boot, "picture": Picture})
	become := func(ctx context.Context, s *cli.Session, args []string) int {
		s.Become = func(name, program string, args, _ []string) error {
			return fmt.Errorf("become %s of %s %q", program, name, args)
		}
		return commands(ctx, s, args)
	}
	place := clitest.Place{Main: become, Control: clitest.PID1(t)}
	place.Golden(t, "picture", "boot --svg", "boot --svg --json", "boot --svg --last", "picture", "picture boot")
	_, svg, _ := place.Do(t, "picture")
	all := strings.Join(picturetest.Check(t, svg), "\n")
	for _, want := range []string{
		"Boot to the first container: 5.932s", "kernel", "attach data", "1.500s degraded", "containerd",
		"lease 4.500s", "container_output 5.932s", "left out: 1 step shorter than 9ms; osctl boot lists all",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the picture does not say %q, but:\n%s", want, all)
		}
	}
	for _, unwanted := range []string{"till", "bell"} { // they started after the first container
		if strings.Contains(all, unwanted) {
			t.Errorf("the picture says %q:\n%s", unwanted, all)
		}
	}
}

// TestPictureOfBadReports: whatever PID 1 reports, the picture is whole and of bounded size.
func TestPictureOfBadReports(t *testing.T) {
	crowd := booted{Report: bootreport.Report{Milestones: map[string]float64{}}}
	for i := range 64 {
		crowd.Milestones[fmt.Sprintf("%02d%s", i, strings.Repeat("W", 62))] = 3 + float64(i)/1000
	}
	for i := range 3000 {
		crowd.Steps = append(crowd.Steps, bootreport.Step{Stage: "root", Name: strings.Repeat("<&>日", 50),
			Start: float64(i), Duration: float64(i % 7), Result: "fatal", Error: strings.Repeat("&", 5000)})
		crowd.Services = append(crowd.Services, blamed{strings.Repeat("&", 5000), float64(i), 1e6, i%2 == 0})
	}
	wrong := booted{Report: bootreport.Report{Milestones: map[string]float64{"pid1": -1, "root": math.Inf(1),
		"container_output": math.NaN(), "": 1e300}, Slot: strings.Repeat("A", 500), Disk: "<\x1b\xff"}}
	for i, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 1e300, 5e-324, 0} {
		wrong.Steps = append(wrong.Steps, bootreport.Step{Name: "a", Start: x, Result: strings.Repeat("<", 99)},
			bootreport.Step{Name: "b", Duration: x, Stage: "\x00"})
		wrong.Services = append(wrong.Services, blamed{"c", x, float64(i), i%2 == 0}, blamed{"d", 1, x, true})
	}
	one := booted{Report: bootreport.Report{Milestones: map[string]float64{"pid1": 4, "root": 4, "services": 4,
		"engine": 4, "lease": 4.0001, "container_output": 4.0002, "later": 9}}}
	for name, r := range map[string]booted{"nothing": {}, "crowd": crowd, "wrong": wrong, "at once": one} {
		t.Run(name, func(t *testing.T) { picturetest.Check(t, draw(r)) })
	}
}

// TestPictureCut: a bar that the first container cuts off says so.
func TestPictureCut(t *testing.T) {
	r := booted{Report: bootreport.Report{Milestones: map[string]float64{"pid1": 3, "container_output": 11}},
		Services: []blamed{{"devd", 6, 7.3, true}, {"netd", 6, 2, true}}}
	all := strings.Join(picturetest.Check(t, draw(r)), "\n")
	if strings.Count(all, "ends later") != 1 || !strings.Contains(all, "7.300s, ends later") {
		t.Errorf("the picture says:\n%s", all)
	}
}

// TestTick: an axis has between 4 and 11 marks, whatever its length.
func TestTick(t *testing.T) {
	for end := 1e-9; end < 1e9; end *= 1.07 {
		if n := end / tick(end); n < 4 || n > 10 {
			t.Errorf("an axis of %g has %g marks", end, n)
		}
	}
	for end, want := range map[float64]float64{10: 1, 11: 2, 27: 5, 0.9: 0.1} {
		if got := tick(end); math.Abs(got-want) > want/1e9 {
			t.Errorf("tick(%g) = %g, want %g", end, got, want)
		}
	}
}

// FuzzPicture: no name, result or time breaks the picture.
func FuzzPicture(f *testing.F) {
	f.Add("netd", "ok", 1.5, 0.2, 5.9)
	f.Add("]]><script>\x1b[31m\u202e\xff", "fatal", 0.0, 1e-9, 1e-9)
	f.Add(strings.Repeat("\u0301日W", 99), "<degraded>", 3e7, 3e7, 1.0)
	f.Fuzz(func(t *testing.T, name, text string, start, took, first float64) {
		r := booted{Report: bootreport.Report{Slot: name, Disk: text,
			Milestones: map[string]float64{name: start, "pid1": start, text: took, "container_output": first}}}
		for _, stage := range []string{"root", "initramfs", name} {
			r.Steps = append(r.Steps, bootreport.Step{Stage: stage, Name: name, Start: start, Duration: took,
				Result: text, Error: name})
		}
		r.Services = []blamed{{name, start, took, true}, {text, took, start, false}}
		picturetest.Check(t, draw(r))
	})
}
