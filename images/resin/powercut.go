package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"resinos/images/powercut"
	"resinos/images/powercut/judge"
	"resinos/images/powercut/recording"
	"resinos/mounts/disk"
)

const powercutLong = `Checks that a device boots again after a power cut at any moment.

record boots an image in QEMU, runs workloads and records every write and flush that reaches the disk. check creates
each disk that a cut could have left, without booting any, and judges it; it fails if one is bad. replay writes one of
these disks into a file, for inspection.`

func powercutCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "powercut", Short: "Checks that a power cut at any moment does no harm", Long: powercutLong, Args: noArgs,
		Example: "  resin powercut record resinos.img /tmp/cut\n  resin powercut check /tmp/cut",
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(recordCommand(), checkCommand(), replayCommand())
	return c
}

func recordCommand() *cobra.Command {
	var f runFlags
	var only []string
	size := "1GiB"
	c := &cobra.Command{
		Use: "record IMAGE DIRECTORY", Short: "Records what a device writes", Args: countArgs(2),
		Example: "  resin powercut record resinos.img /tmp/cut\n  resin powercut record --only first-boot,careless " +
			"resinos.img /tmp/cut",
	}
	c.Flags().StringVar(&f.board, "board", "", "board to emulate (default: the board that the image was built for)")
	c.Flags().StringVar(&f.cache, "cache", ".cache", "directory for downloads: the board's firmware")
	c.Flags().StringVar(&size, "disk-size", size, "size of the disk that the image is copied to")
	c.Flags().StringSliceVar(&only, "only", nil, "workloads to record, from: "+workloadNames())
	c.RunE = func(c *cobra.Command, args []string) error {
		bytes, err := disk.ParseBytes(size)
		if err != nil {
			return usageError{err}
		}
		return record(c.Context(), args[0], args[1], int64(bytes), f, only,
			func(line string) { fmt.Fprintln(c.ErrOrStderr(), line) })
	}
	return c
}

func workloadNames() string {
	var names []string
	for _, w := range recording.Workloads() {
		names = append(names, w.Name)
	}
	return strings.Join(names, ", ")
}

func record(ctx context.Context, image, dir string, size int64, f runFlags, only []string, say func(string)) error {
	o, err := runOptions(ctx, image, f)
	if err != nil {
		return err
	}
	s, err := recording.Start(ctx, o, dir, size, say)
	if err != nil {
		return err
	}
	defer s.Abort()
	for _, w := range recording.Workloads() {
		if len(only) > 0 && !slices.Contains(only, w.Name) {
			continue
		}
		if _, err := s.Do(ctx, w); err != nil {
			return err
		}
	}
	_, err = s.Stop(ctx)
	return err
}

func checkCommand() *cobra.Command {
	var o powercut.Options
	var seed uint64
	var thorough, good bool
	c := &cobra.Command{
		Use: "check DIRECTORY", Short: "Judges each disk that a cut could have left", Args: countArgs(1),
		Example: "  resin powercut check /tmp/cut\n" +
			"  resin powercut check --thorough --seed 7 --section config /tmp/cut",
	}
	c.Flags().Uint64Var(&seed, "seed", 1, "seed of the random choice of writes in long epochs")
	c.Flags().BoolVar(&good, "good", false,
		"without --section: checks all workloads but careless, whose states must be bad")
	c.Flags().BoolVar(&thorough, "thorough", false, "tries every loss and every tear; takes four times as long")
	c.Flags().StringSliceVar(&o.Sections, "section", nil, "checks these sections only")
	c.Flags().IntVar(&o.Workers, "workers", 0, "number of judges that work in parallel (0: one for each processor)")
	c.Flags().StringVar(&o.Scratch, "scratch", scratchDir(),
		"directory for the disk that states are created on, preferably in RAM")
	asJSON := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if o.Effort = powercut.Quick(seed); thorough {
			o.Effort = powercut.Thorough(seed)
		}
		return check(c, args[0], o, good, *asJSON)
	}
	return c
}

func check(c *cobra.Command, dir string, o powercut.Options, good, asJSON bool) error {
	r, err := recording.Load(dir)
	if err != nil {
		return err
	}
	if good && len(o.Sections) == 0 {
		o.Sections = r.Good()
	}
	if o.Suite, err = judge.DeviceSuite(r); err != nil {
		return err
	}
	report, err := powercut.Check(c.Context(), r, o)
	if err != nil {
		return err
	}
	if asJSON {
		err = printJSON(c.OutOrStdout(), report)
	} else {
		_, err = fmt.Fprint(c.OutOrStdout(), report)
	}
	if err == nil && report.BadCount > 0 {
		err = fmt.Errorf("%d of %d states are bad; inspect one with: resin powercut replay %s --state %s -o disk.img",
			report.BadCount, report.States, dir, report.Bad[0].State)
	}
	return err
}

// scratchDir returns a directory in RAM if the host has one.
func scratchDir() string {
	const ram = "/dev/shm"
	if stat, err := os.Stat(ram); err == nil && stat.IsDir() {
		return ram
	}
	return os.TempDir()
}

func replayCommand() *cobra.Command {
	var state, output string
	var seed uint64
	c := &cobra.Command{
		Use: "replay DIRECTORY", Short: "Writes one disk that a cut could have left into a file", Args: countArgs(1),
		Example: "  resin powercut replay /tmp/cut --state 12p3 -o disk.img",
	}
	c.Flags().StringVar(&state, "state", "", "name of the state, as check prints it")
	c.Flags().StringVarP(&output, "output", "o", "state.img", "file to write")
	c.Flags().Uint64Var(&seed, "seed", 1, "seed that check ran with")
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := recording.Load(args[0])
		if err != nil {
			return err
		}
		return powercut.WriteState(r, powercut.StateID(state), powercut.Effort{Seed: seed}, output)
	}
	return c
}
