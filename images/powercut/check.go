package powercut

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"resinos/images/powercut/judge"
	"resinos/images/powercut/recording"
)

// Options of Check. The zero value of Workers is one for each processor.
type Options struct {
	Suite    judge.Suite
	Effort   Effort
	Sections []string // names of those to check; none means all
	Workers  int
	Scratch  string // directory for the scratch disk, best in RAM
	Progress func(done, total int)
}

// seen is one state: where it is from, and what stands for its regions.
type seen struct {
	choice
	sums []sum
}

// checker is one run of Check.
type checker struct {
	Options
	recording *recording.Recording
	log       *recording.Log
	disk      *scratch
	states    []seen
	verdicts  []map[sum]*judge.Verdict // of each region
	work      *errgroup.Group
	ctx       context.Context
	jobs      int
}

// Check makes every disk that a cut during the recording could have left, as far as the effort goes, and judges it. The
// error says that this could not be done; what is bad is in the report.
func Check(ctx context.Context, r *recording.Recording, o Options) (*Report, error) {
	start := time.Now()
	c, err := newChecker(r, o)
	if err != nil {
		return nil, err
	}
	defer c.log.Close() // read only: closing cannot lose anything
	dir, err := os.MkdirTemp(o.Scratch, "resinos-powercut-")
	if err != nil {
		return nil, fmt.Errorf("create scratch directory: %w", err)
	}
	defer os.RemoveAll(dir) // scratch files; nothing is lost if they stay
	if err := c.judgeAll(ctx, dir); err != nil {
		return nil, err
	}
	report := c.report()
	report.Took = time.Since(start)
	return report, nil
}

func newChecker(r *recording.Recording, o Options) (*checker, error) {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	for _, name := range o.Sections {
		if !slices.ContainsFunc(r.Sections, func(s recording.Section) bool { return s.Name == name }) {
			return nil, fmt.Errorf("check section %q: the recording has no such section", name)
		}
	}
	log, err := r.OpenLog()
	if err != nil {
		return nil, err
	}
	return &checker{Options: o, recording: r, log: log}, nil
}

// judgeAll walks through the log once. States are made one after the other on one scratch disk; what is new in a region
// is copied and judged beside that.
func (c *checker) judgeAll(ctx context.Context, dir string) (err error) {
	regions, err := judge.Regions(c.recording.Image, c.recording.Size)
	if err != nil {
		return err
	}
	if c.disk, err = newScratch(c.recording.Image, filepath.Join(dir, "disk.img"), c.recording.Size,
		regions); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.disk.Close()) }()
	for _, region := range regions {
		known, err := c.disk.contents(region, c.Suite.Contents)
		if err != nil {
			return err
		}
		c.verdicts = append(c.verdicts, known)
	}
	c.work, c.ctx = errgroup.WithContext(ctx)
	c.work.SetLimit(c.Workers)
	walked := c.walk(dir)
	return errors.Join(walked, c.work.Wait())
}

func (c *checker) walk(dir string) error {
	epochs := c.log.Epochs()
	for i, e := range epochs {
		v, err := c.disk.view(c.log, e)
		if err != nil {
			return err
		}
		var shown []piece
		show := func(is []piece) error {
			was := shown
			shown = is
			return v.show(was, is)
		}
		for _, one := range choices(c.log, i, e, c.Effort) {
			if !c.recording.Judged(c.Sections, e.Writes[0], one.cut) {
				continue
			}
			if err := c.ctx.Err(); err != nil {
				return context.Cause(c.ctx)
			}
			if err := show(one.pieces); err != nil {
				return err
			}
			if err := c.note(seen{choice: one}, dir); err != nil {
				return err
			}
		}
		if err := show(choose(c.log, i, e, c.Effort, prefixState, len(e.Writes), 0).pieces); err != nil {
			return err
		}
		if c.Progress != nil {
			c.Progress(i+1, len(epochs))
		}
	}
	return nil
}

// note records the state on the scratch disk, and has what is new in it judged.
func (c *checker) note(s seen, dir string) error {
	s.sums = slices.Clone(c.disk.sums)
	s.pieces = nil // of a long epoch they are many, and the report needs none
	c.states = append(c.states, s)
	for i, region := range c.disk.regions {
		at := s.sums[i]
		if c.verdicts[i][at] != nil {
			continue
		}
		v := &judge.Verdict{}
		c.verdicts[i][at] = v
		if other, byContent := c.Suite.Other[region.Name]; byContent {
			*v = other
			continue
		}
		c.jobs++
		file := filepath.Join(dir, fmt.Sprintf("job%d", c.jobs))
		if err := c.disk.copyRegion(region, file); err != nil {
			return err
		}
		c.work.Go(func() (err error) {
			*v, err = c.Suite.Run(c.ctx, region.Name, file)
			return errors.Join(err, os.Remove(file))
		})
	}
	return nil
}

// WriteState makes one of the states that Check tries, whole, as the file name.
func WriteState(r *recording.Recording, id StateID, f Effort, name string) error {
	number, kind, n, sectors, err := id.parts()
	if err != nil {
		return err
	}
	log, err := r.OpenLog()
	if err != nil {
		return err
	}
	defer log.Close() // read only: closing cannot lose anything
	epochs := log.Epochs()
	if number >= len(epochs) {
		return fmt.Errorf("make state %s: the recording has %d epochs", id, len(epochs))
	}
	if limit := limits(epochs[number], kind); n > limit {
		return fmt.Errorf("make state %s: its epoch has %d writes", id, len(epochs[number].Writes))
	}
	s, err := newScratch(r.Image, name, r.Size, nil)
	if err != nil {
		return err
	}
	return errors.Join(lay(s, log, epochs, choose(log, number, epochs[number], f, kind, n, sectors), number), s.Close())
}

// limits is the largest number that a state of a kind may have.
func limits(e recording.Epoch, kind byte) int {
	switch kind {
	case prefixState:
		return len(e.Writes)
	case subsetState:
		return 1<<min(len(e.Writes), 20) - 1
	case randomState:
		return 1 << 30
	}
	return len(e.Writes) - 1
}

func lay(s *scratch, log *recording.Log, epochs []recording.Epoch, last choice, number int) error {
	for i, e := range epochs[:number+1] {
		v, err := s.view(log, e)
		if err != nil {
			return err
		}
		pieces := last.pieces
		if i < number {
			pieces = choose(log, i, e, Effort{}, prefixState, len(e.Writes), 0).pieces
		}
		if err := v.show(nil, pieces); err != nil {
			return err
		}
	}
	return nil
}
