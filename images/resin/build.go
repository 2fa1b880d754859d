package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"resinos/images/build"
	"resinos/images/keyring"
)

func buildCommand() *cobra.Command {
	o := build.Options{}
	var keys string
	var verified bool
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Builds a disk image",
		Long: `Builds a disk image from the board's Debian packages, the device's binaries and the preloaded apps.

Needs no root. Keeps the results of finished stages in the cache, so that a second build repeats only the stages whose
inputs changed; the same inputs always give the same bytes. Writes the image beside the output file and renames it when
it is complete.

The image contains the public keys by which the device verifies updates (resin bundle). A development image trusts the
key of this developer, which the first build creates. Other variants trust only the keys that --keys names; without any,
the device refuses every update.`,
		Example: `  resin build --board qemu-x86_64 --variant development -o resinos.img
  resin build --board qemu-arm64 --variant production -o resinos.img --apps ./my-app
  resin build --board qemu-x86_64 --variant production -o resinos.img --apps ''
  resin build --board qemu-x86_64 --variant production -o resinos.img --keys ~/release-keys`,
		Args: countArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Board == "" || o.Output == "" {
				return usageError{fmt.Errorf("--board and -o are needed; see: %s --help", cmd.CommandPath())}
			}
			if len(o.Apps) == 1 && o.Apps[0] == "" {
				o.Apps = nil
			}
			o.Unverified = !verified || o.Variant == "development" && !cmd.Flags().Changed("verified")
			var err error
			if o.Trust, err = keyring.Trust(keys, o.Variant, o.Cache); err != nil {
				return err
			}
			show, finish := progress()
			o.Progress = show
			result, err := build.Build(cmd.Context(), o)
			finish()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: resinOS %s for %s, %s\n", result.Image, result.Manifest.Version,
				o.Board, o.Variant)
			if len(o.Trust.Usable()) == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "resin: %s trusts no key, so a device refuses every update; "+
					"to change that, create a key with resin keys new, and build with --keys\n", result.Image)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Board, "board", "", "board to build for; see: resin boards")
	f.StringVar(&o.Variant, "variant", "development", "production, development or standalone")
	f.StringVarP(&o.Output, "output", "o", "", "image file to write")
	f.StringSliceVar(&o.Apps, "apps", []string{"hello"}, "apps to preload: directories with a compose.yaml, the "+
		"files that it reads or binds, and images/*.tar; '' for none")
	f.StringVar(&o.Binaries, "binaries", "bin",
		"directory with the device's binaries, one subdirectory for each architecture")
	f.StringVar(&keys, "keys", "", "directory with the trust file for updates; see: resin keys")
	f.StringSliceVar(&o.Without, "without", nil, "parts to leave out: docker (Docker's API)")
	f.StringVar(&o.Version, "version", build.Version, "version of the system in the image")
	f.BoolVar(&verified, "verified", true,
		"check each block of the root when it is read; false for development if not given, because it slows the boot")
	f.StringVar(&o.Cache, "cache", ".cache", "directory for packages and finished stages")
	f.StringSliceVar(&o.Mirrors, "mirror", nil, "Debian mirrors to use instead of the host's own")
	return cmd
}

// progress returns bars on a terminal and plain lines elsewhere. Finish must be called before anything else is printed.
func progress() (build.Progress, func()) {
	if term.IsTerminal(int(os.Stderr.Fd())) {
		b := newBars(os.Stderr)
		return b, b.wait
	}
	return build.NewLines(os.Stderr), func() {}
}
