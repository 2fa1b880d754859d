// Command resin is the command on the build host: it builds, inspects and runs images.
//
// It owns the commands, their flags and help texts. The packages of images/ and bsp/ do the work. Read first: root.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// usageError marks a fault in what the person typed.
type usageError struct{ error }

// Unwrap returns the fault itself.
func (e usageError) Unwrap() error { return e.error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process. The exit status is 0 for done, 1 for failed, 2 for wrong usage.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	cmd := root()
	cmd.SetArgs(args)
	cmd.SetOut(out)
	cmd.SetErr(errs)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(errs, "resin:", err) // there is nowhere to report that this failed
	var usage usageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resin",
		Short: "Builds, inspects and runs resinOS images",
		Example: `  resin boards
  resin build --board qemu-x86_64 --variant development -o resinos.img
  resin inspect resinos.img
  resin run resinos.img
  resin bundle resinos.img -o resinos.bundle`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see: %s --help", err, c.CommandPath())}
	})
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.AddCommand(buildCommand(), boardsCommand(), inspectCommand(), bspCommand(), versionCommand(), runCommand(),
		powercutCommand(),
		bundleCommand(), keysCommand(), preloadCommand(), pushCommand())
	return cmd
}

// noArgs refuses arguments. If the command has sub-commands, the error names the help text that lists them.
func noArgs(c *cobra.Command, args []string) error { return countArgs(0)(c, args) }

// countArgs is cobra.ExactArgs whose fault counts as wrong usage.
func countArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		if n == 0 && c.HasSubCommands() {
			return usageError{fmt.Errorf("no command %q; see: %s --help", args[0], c.CommandPath())}
		}
		return usageError{fmt.Errorf("%s takes %d arguments, not %d; see: %s --help", c.CommandPath(), n, len(args),
			c.CommandPath())}
	}
}
