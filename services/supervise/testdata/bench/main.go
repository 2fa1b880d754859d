// The bench program is a supervisor and nothing else, so that its memory is the supervisor's.
// It starts N services, prints how long it took until all were up and seen running, its private
// memory then, and how long each of some kill -9 took until a new process ran.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"resinos/services/cgroup"
	"resinos/services/proc"
	"resinos/services/spec"
	"resinos/services/supervise"
)

type result struct {
	Services  int     `json:"services"`
	StartMS   float64 `json:"start_ms"`
	PrivateKB int     `json:"private_kb"`
	AfterKB   int     `json:"private_after_restarts_kb"`
	Restarts  int     `json:"restarts"`
	MedianMS  float64 `json:"restart_median_ms"`
	P99MS     float64 `json:"restart_p99_ms"`
	WorstMS   float64 `json:"restart_worst_ms"`
	Threads   int     `json:"threads"`
	IdleTicks int     `json:"cpu_ticks_in_2s_at_rest"`
	Groups    bool    `json:"cgroups"`
	StopMS    float64 `json:"stop_ms"`
	CPUMS     int     `json:"start_cpu_ms"` // of the supervisor itself, children's not counted
}

func main() {
	n, _ := strconv.Atoi(os.Args[1])
	restarts, _ := strconv.Atoi(os.Args[2])
	debug.SetGCPercent(50)
	var tree *cgroup.Tree
	if len(os.Args) > 3 {
		var err error
		if tree, err = cgroup.Open(os.Args[3]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	out, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var specs []spec.Spec
	for i := range n {
		s, err := spec.Parse(fmt.Sprintf("s%03d.toml", i), []byte("command = [\"/bin/sleep\", \"100000\"]\n"))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		specs = append(specs, s)
	}
	type change struct {
		name, state string
		at          time.Time
	}
	changes := make(chan change, 16*n+16)
	reaper := proc.NewReaper()
	begin := time.Now()
	s, err := supervise.New(supervise.Config{
		Specs: specs, Reaper: reaper, Cgroups: tree, Log: slog.New(slog.DiscardHandler),
		Output:  func(string) (*os.File, error) { return out, nil },
		OnState: func(name, state string) { changes <- change{name, state, time.Now()} },
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go reaper.Run(context.Background())
	go func() { over <- s.Run(ctx) }()
	up := func(name string) time.Time {
		for {
			if c := <-changes; c.state == "up" && (name == "" || c.name == name) {
				return c.at
			}
		}
	}
	var last time.Time
	for range n {
		last = up("")
	}
	list, err := s.Status(ctx)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for _, st := range list {
		if err := syscall.Kill(st.PID, 0); err != nil {
			fmt.Println(st.Name, "does not run")
			os.Exit(1)
		}
	}
	r := result{Services: n, StartMS: ms(last.Sub(begin)), Groups: tree != nil, Restarts: restarts}
	r.CPUMS = 10 * cpu()
	r.PrivateKB, r.Threads = memory()
	ticks := cpu()
	time.Sleep(2 * time.Second)
	r.IdleTicks = cpu() - ticks
	var took []time.Duration
	for i := range restarts { // each service in turn, so that the pauses do not count
		st := list[i%n]
		if i >= n { // the rest without a measurement, by the operator's hand
			args := fmt.Appendf(nil, `{"name":%q}`, st.Name)
			if _, err := s.Handlers()["restart"](ctx, args); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			for len(changes) > 0 {
				<-changes
			}
			continue
		}
		begin := time.Now()
		syscall.Kill(st.PID, syscall.SIGKILL)
		took = append(took, up(st.Name).Sub(begin))
	}
	slices.Sort(took)
	if len(took) > 0 {
		r.MedianMS, r.P99MS, r.WorstMS = ms(took[len(took)/2]), ms(took[len(took)*99/100]), ms(took[len(took)-1])
	}
	r.AfterKB, _ = memory()
	begin = time.Now()
	cancel()
	if err := <-over; err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	r.StopMS = ms(time.Since(begin))
	if tree != nil {
		tree.Remove(".")
	}
	json.NewEncoder(os.Stdout).Encode(r)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// memory is what only this process holds, and its threads.
func memory() (kb, threads int) {
	sum := func(file string, keys ...string) (total int) {
		f, err := os.Open(file)
		if err != nil {
			return 0
		}
		defer f.Close()
		for in := bufio.NewScanner(f); in.Scan(); {
			words := strings.Fields(in.Text())
			if len(words) > 1 && slices.Contains(keys, words[0]) {
				v, _ := strconv.Atoi(words[1])
				total += v
			}
		}
		return total
	}
	return sum("/proc/self/smaps_rollup", "Anonymous:"), sum("/proc/self/status", "Threads:")
}

func cpu() int {
	data, _ := os.ReadFile("/proc/self/stat")
	words := strings.Fields(string(data))
	u, _ := strconv.Atoi(words[13])
	s, _ := strconv.Atoi(words[14])
	return u + s
}
