package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"resinos/images/preload"
)

func preloadCommand() *cobra.Command {
	o := preload.Options{}
	cmd := &cobra.Command{
		Use:   "preload IMAGE ARCHIVE|APP...",
		Short: "Adds container images and apps to a disk image",
		Long: `Adds container images and apps to a disk image that is built, without building it again.

ARCHIVE is what docker save writes: a container image for the architecture of the disk image. Any app of the device uses
it instead of a pull. APP is a directory with a compose.yaml, as for resin build --apps: added are the files that the
compose file reads or binds, and images/*.tar. An app or container image of the same name is replaced. The same inputs
always give the same bytes. Needs no root.`,
		Example: `  docker save shop/web:1 -o web.tar
  resin preload resinos.img web.tar ./shop
  resin preload resinos.img web.tar -o shop.img`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Image, o.Items = args[0], args[1:]
			if o.Output == "" {
				o.Output = o.Image
			}
			if err := preload.Run(cmd.Context(), o); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %d added\n", o.Output, len(o.Items))
			return err
		},
	}
	cmd.Flags().StringVarP(&o.Output, "output", "o", "", "file to write (default: IMAGE itself)")
	return cmd
}
