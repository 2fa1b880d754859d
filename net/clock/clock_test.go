package clock

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"resinos/net/clockstatus"
)

func TestSelect(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	c := func(offset, distance int) Candidate { return Candidate{ms(offset), ms(distance)} }
	for _, tt := range []struct {
		name string
		list []Candidate
		good []int // nil: no majority
	}{
		{"nobody", nil, nil},
		{"one", []Candidate{c(5, 10)}, []int{0}},
		{"two that agree", []Candidate{c(5, 10), c(10, 10)}, []int{0, 1}},
		{"two that differ", []Candidate{c(5, 10), c(50, 10)}, nil},
		{"1 liar of 3", []Candidate{c(5, 10), c(1000, 10), c(8, 10)}, []int{0, 2}},
		{"2 liars of 5, together", []Candidate{c(1000, 10), c(5, 10), c(1001, 10), c(8, 10), c(3, 10)}, []int{1, 3, 4}},
		{"2 liars of 5, apart", []Candidate{c(1000, 10), c(5, 10), c(-1001, 10), c(8, 10), c(3, 10)}, []int{1, 3, 4}},
		{"2 liars of 4", []Candidate{c(1000, 10), c(5, 10), c(1001, 10), c(8, 10)}, nil},
		{"3 liars of 5", []Candidate{c(1000, 10), c(5, 10), c(1001, 10), c(999, 10), c(3, 10)}, []int{0, 2, 3}},
		{"half of 4, the others apart", []Candidate{c(1000, 10), c(5, 10), c(-1000, 10), c(8, 10)}, nil},
		{"half of 6, the others apart",
			[]Candidate{c(1000, 10), c(5, 10), c(-1000, 10), c(8, 10), c(500, 10), c(3, 10)}, nil},
		{"3 of 5, the others apart", []Candidate{c(1000, 10), c(5, 10), c(-1000, 10), c(8, 10), c(3, 10)},
			[]int{1, 3, 4}},
		{"all disagree", []Candidate{c(0, 10), c(100, 10), c(200, 10), c(300, 10), c(400, 10)}, nil},
		{"a chain in which neighbours agree", []Candidate{c(0, 10), c(18, 10), c(36, 10)}, nil},
		{"one that is sure of nothing", []Candidate{c(5, 10), c(8, 10), c(900, 1400)}, []int{0, 1, 2}},
		{"the same to the nanosecond", []Candidate{c(5, 5), c(5, 5), c(5, 5)}, []int{0, 1, 2}},
		{"touching ends", []Candidate{c(0, 10), c(20, 10)}, []int{0, 1}},
		{"1 liar of 3, a true one heard late", []Candidate{c(3693413, 5), c(93413, 46), c(93444, 16)},
			[]int{1, 2}}, // from a busy guest
	} {
		for range 5 {
			order := rand.Perm(len(tt.list))
			list := make([]Candidate, len(order))
			for i, o := range order {
				list[i] = tt.list[o]
			}
			span, ok := Select(list)
			var good []int
			for i, o := range order {
				if ok && span.Within(list[i]) {
					good = append(good, o)
				}
			}
			slices.Sort(good)
			if !slices.Equal(good, tt.good) {
				t.Errorf("%s: Select = %v, %v: true are %v, want %v", tt.name, span, ok, good, tt.good)
			}
		}
	}
}

// FuzzSelect: whatever is elected, more than half of the voters stand behind it, and it does not hang on their order.
func FuzzSelect(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var list []Candidate
		for ; len(raw) >= 2 && len(list) < 16; raw = raw[2:] {
			list = append(list, Candidate{time.Duration(int8(raw[0])), time.Duration(raw[1])})
		}
		span, ok := Select(list)
		behind := 0
		for _, c := range list {
			if span.Within(c) {
				behind++
			}
		}
		if ok && 2*behind <= len(list) {
			t.Fatalf("Select(%v) = %v with %d behind it", list, span, behind)
		}
		slices.Reverse(list)
		if again, ok2 := Select(list); ok2 != ok || again != span {
			t.Fatalf("Select = %v %v, of the reverse %v %v", span, ok, again, ok2)
		}
	})
}

// The filter's own idea of its error is honest: over many runs the squared error is what it says.
func TestFilterHonest(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	start := time.Unix(1e9, 0)
	total, n := 0.0, 0
	for range 200 {
		var f Filter
		rate := rng.NormFloat64() * 50e-6
		for at := 0.0; at < 36_000; at += 64 + 2000*rng.Float64() {
			sigma := 1e-3 + 5e-3*rng.Float64()
			truth := 3 + rate*at
			f.Update(start.Add(time.Duration(at*1e9)), time.Duration((truth+sigma*rng.NormFloat64())*1e9), sigma)
			if at > 3600 {
				got, deviation := f.Offset(start.Add(time.Duration(at * 1e9)))
				e := (got.Seconds() - truth) / deviation
				total += e * e
				n++
			}
		}
		if ppm, _ := f.Rate(); math.Abs(ppm-rate*1e6) > 5 {
			t.Errorf("rate = %.1f ppm, want %.1f", ppm, rate*1e6)
		}
	}
	// The simulated oscillator is steadier than the filter assumes, so it is too modest rather than too sure.
	if mean := total / float64(n); mean > 1.2 || mean < 0.1 {
		t.Errorf("squared error is %.2f of what the filter says", mean)
	}
}

func TestSplitServers(t *testing.T) {
	valid := func(s string) bool { return !strings.ContainsAny(s, ";\x1b") }
	for text, want := range map[string]string{
		"":                            "|",
		"a.test b.test":               "a.test b.test|",
		" a.test,b.test\n\ta.test. ":  "a.test b.test|",
		"a.test ;reboot \x1b[2J c":    "a.test c|;reboot \x1b[2J",
		strings.Repeat("x ", 100_000): "x|",
	} {
		servers, refused := SplitServers(text, valid)
		if got := strings.Join(servers, " ") + "|" + strings.Join(refused, " "); got != want {
			t.Errorf("SplitServers(%.40q) = %q, want %q", text, got, want)
		}
	}
}

// TestAdoptForeign: numbers that no daemon of ours wrote do no harm.
func TestAdoptForeign(t *testing.T) {
	var m Machine
	m.Adopt(clockstatus.Status{Synchronised: true, Since: math.Inf(1), Heard: -5, Bound: 1e300}, math.NaN())
}
