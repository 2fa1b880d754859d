package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"resinos/bsp/boards"
	"resinos/images/build"
	"resinos/images/inspect"
)

// asJSON adds the flag --json, which every reading command has.
func asJSON(cmd *cobra.Command) *bool { return cmd.Flags().Bool("json", false, "prints JSON") }

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func boardsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "boards",
		Short:   "Lists the boards that images can be built for",
		Example: "  resin boards\n  resin boards --json",
		Args:    countArgs(0),
	}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		type row struct {
			Name        string `json:"name"`
			Arch        string `json:"arch"`
			Description string `json:"description"`
		}
		var rows []row
		for _, name := range boards.Names() {
			b, err := boards.Load(name)
			if err != nil {
				return err
			}
			rows = append(rows, row{b.Name, b.Arch, b.Description})
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), rows)
		}
		for _, r := range rows {
			fmt.Fprintf(cmd.OutOrStdout(), "%-16s %-8s %s\n", r.Name, r.Arch, r.Description)
		}
		return nil
	}
	return cmd
}

func inspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "inspect FILE",
		Short:   "Shows the content of an image: partitions, free space, the content of each slot",
		Example: "  resin inspect resinos.img\n  resin inspect --json resinos.img",
		Args:    countArgs(1),
	}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		report, err := inspect.Image(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), report)
		}
		_, err = fmt.Fprint(cmd.OutOrStdout(), report)
		return err
	}
	return cmd
}

func versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Prints the version of resinOS that this program builds",
		Example: "  resin version",
		Args:    countArgs(0),
	}
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), map[string]string{"version": build.Version, "go": runtime.Version()})
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "resinOS", build.Version)
		return err
	}
	return cmd
}
