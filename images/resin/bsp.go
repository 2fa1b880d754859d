package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"resinos/bsp/apt"
	"resinos/bsp/boards"
	"resinos/bsp/lock"
	"resinos/images/build"
)

func bspCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bsp",
		Short:   "Manages the packages of the boards",
		Example: "  resin bsp lock qemu-x86_64\n  resin bsp unpack qemu-x86_64 crun libc6 -o /tmp/crun",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(lockCommand(), unpackCommand())
	return cmd
}

func unpackCommand() *cobra.Command {
	var o build.Options
	var dir string
	cmd := &cobra.Command{
		Use:   "unpack BOARD PACKAGE...",
		Short: "Puts the files of a board's pinned packages into a directory",
		Long: `Fetches packages that the board's lock pins, checks their digests, and writes their files below the
directory that --output names. Replaces existing files. Use it to run or inspect the programs in the board's images.`,
		Example: "  resin bsp unpack qemu-x86_64 crun libc6 -o /tmp/crun",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				return usageError{fmt.Errorf("no directory to write to; name it with --output")}
			}
			o.Board = args[0]
			return build.Unpack(cmd.Context(), o, args[1:], dir)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&dir, "output", "o", "", "directory to write to")
	f.StringVar(&o.Cache, "cache", ".cache", "directory for packages")
	f.StringSliceVar(&o.Mirrors, "mirror", nil, "Debian mirrors to use instead of the host's own")
	return cmd
}

func lockCommand() *cobra.Command {
	var cache, tree string
	var mirrors []string
	var dry bool
	cmd := &cobra.Command{
		Use:   "lock BOARD",
		Short: "Pins the current versions and digests of a board's packages",
		Long: `Asks the Debian mirror for the version of each of the board's packages, and writes version, digest and
size into bsp/boards/BOARD.lock. Run it at the top of the source tree, then build bin/resin again, which
contains the lock.`,
		Example: "  resin bsp lock qemu-x86_64\n  resin bsp lock -n qemu-arm64",
		Args:    countArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			board, err := boards.Load(args[0])
			if err != nil {
				return err
			}
			if _, err := os.Stat(lockDirectory(tree)); err != nil {
				return usageError{fmt.Errorf("%w; run it at the top of the source tree, or name the tree with --tree",
					err)}
			}
			fresh, err := pin(cmd.Context(), board, cache, mirrors)
			if err != nil {
				return err
			}
			if dry {
				_, err := cmd.OutOrStdout().Write(lock.Format(fresh))
				return err
			}
			if err := lock.Save(tree, fresh); err != nil {
				return err
			}
			report(cmd, board.Name, fresh)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&cache, "cache", ".cache", "directory for the package lists")
	f.StringVar(&tree, "tree", ".", "top of the source tree")
	f.StringSliceVar(&mirrors, "mirror", nil, "Debian mirrors to use instead of the host's own")
	f.BoolVarP(&dry, "dry-run", "n", false, "prints the lock and writes nothing")
	return cmd
}

func lockDirectory(tree string) string { return tree + "/" + boards.Directory }

func pin(ctx context.Context, board boards.Board, cache string, mirrors []string) (lock.Lock, error) {
	config := apt.For(board, cache)
	config.Mirrors = mirrors
	show, finish := progress()
	config.Report = func(p apt.Progress) { show.Advance(p.What, p.Done, p.Total) }
	fresh, err := apt.Pin(ctx, config, board)
	finish()
	return fresh, err
}

// report lists the differences from the lock that is built in.
func report(cmd *cobra.Command, board string, fresh lock.Lock) {
	old, err := lock.Load(board)
	if err != nil {
		old = lock.Lock{} // broken or missing: everything is new
	}
	changed := 0
	for _, p := range fresh.Packages {
		if !slices.Contains(old.Packages, p) {
			changed++
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", p.Name, p.Version)
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %d packages, %d changed\n", lock.File(board), len(fresh.Packages), changed)
}
