package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"resinos/bsp/bundle"
	"resinos/images/bundler"
	"resinos/images/keyring"
)

const bundleLong = `Makes the signed update file of an image that resin build has built.

The bundle contains slot A as chunks, so that a device fetches only those that it does not have. Any web server that
sends parts of a file can serve it, and so can any OCI registry: --push puts the bundle there, with the logins and the
hosts.toml files of the directory --registries, and osctl update HOST/REPOSITORY:TAG installs it. The same images and
keys give the same bytes. --from IMAGE adds data with which devices that run IMAGE fetch less. The version is that of
the image; build the image with --version to give it another one.

Without --key, the bundle is signed with the key of this developer, which development images trust. Repeat --key if the
image's trust file wants several signatures; a directory stands for all private keys in it.`

func bundleCommand() *cobra.Command {
	var o bundler.Options
	var keys []string
	var cache string
	var out outputs
	cmd := &cobra.Command{
		Use: "bundle IMAGE", Short: "Makes the signed update file of an image", Long: bundleLong, Args: countArgs(1),
		Example: `  resin bundle resinos.img
  resin bundle resinos.img -o update.bundle --key ~/release-keys/alice.key --key ~/release-keys/bob.key
  resin bundle resinos.img --min-from 0.2.0 --rollback-index 3 --oci /tmp/layout
  resin bundle resinos.img --push registry.example/resinos:0.2.0
  resin bundle resinos.img --from installed.img --from older.img`,
	}
	f := cmd.Flags()
	f.StringVarP(&o.Output, "output", "o", "", "bundle to write (default: the image's name with .bundle)")
	f.StringArrayVar(&keys, "key", nil, "private key to sign with, or a directory of them; may be repeated")
	f.StringVar(&o.MinFrom, "min-from", "", "oldest version that the update may replace (default: any)")
	f.Int64Var(&o.RollbackIndex, "rollback-index", 0, "devices that have confirmed a higher one refuse this update")
	f.StringVar(&out.oci, "oci", "", "directory to write the bundle into as an OCI image layout too")
	f.StringVar(&out.push, "push", "", "where to push the bundle to: HOST/REPOSITORY:TAG of an OCI registry")
	f.StringVar(&out.registries, "registries", dockerSettings(),
		"directory of config.json (docker login) and HOST/hosts.toml")
	f.StringArrayVar(&o.From, "from", nil,
		"image that devices run: they fetch less, and the command shows how much; may be repeated")
	f.StringVar(&cache, "cache", ".cache", "directory of the developer's key if there is no home directory")
	asJSON := asJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Image = args[0]
		o.Output = cmp.Or(o.Output, strings.TrimSuffix(o.Image, ".img")+".bundle")
		if len(keys) == 0 {
			keys = []string{keyring.DevelopmentDir(cache)}
		}
		return makeBundle(cmd, o, keys, out, *asJSON)
	}
	return cmd
}

// outputs are what is made of the bundle besides the file.
type outputs struct {
	oci, push, registries string
}

// dockerSettings is the directory of docker's settings on this host.
func dockerSettings() string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".docker")
}

// made is what the command reports.
type made struct {
	Bundle   string          `json:"bundle"`
	Size     int64           `json:"size"`
	Manifest bundle.Manifest `json:"manifest"`
	Pushed   string          `json:"pushed,omitempty"` // the reference, with a digest
	Deltas   []bundler.Delta `json:"deltas,omitempty"`
}

func makeBundle(cmd *cobra.Command, o bundler.Options, keys []string, out outputs, asJSON bool) error {
	var err error
	if o.Keys, err = keyring.ReadAll(keys); err != nil {
		return err
	}
	m, err := bundler.Make(cmd.Context(), o)
	if err != nil {
		return err
	}
	st, err := os.Stat(o.Output)
	if err != nil {
		return err
	}
	report := made{Bundle: o.Output, Size: st.Size(), Manifest: m}
	if out.oci != "" {
		if err := bundler.WriteOCI(out.oci, o.Output, m); err != nil {
			return err
		}
	}
	if out.push != "" {
		if report.Pushed, err = bundler.Push(cmd.Context(), out.push, o.Output, m,
			[]string{out.registries}); err != nil {
			return err
		}
	}
	for _, image := range o.From {
		d, err := bundler.Compare(cmd.Context(), o.Output, image, o.Keys)
		if err != nil {
			return err
		}
		report.Deltas = append(report.Deltas, d)
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), report)
	}
	report.print(cmd.OutOrStdout())
	return nil
}

func (r made) print(w io.Writer) {
	m := r.Manifest
	fmt.Fprintf(w, "%s: resinOS %s for %s, %s, %.1f MB\n",
		r.Bundle, m.Version, m.Board, m.Variant, float64(r.Size)/1e6)
	if r.Pushed != "" {
		fmt.Fprintf(w, "pushed; install it with: osctl update %s\n", r.Pushed)
	}
	for _, d := range r.Deltas {
		fmt.Fprintf(w, "a device that runs %s fetches %.2f MB (%.1f %%) in %d requests\n", d.From,
			float64(d.Fetched)/1e6, 100*float64(d.Fetched)/float64(r.Size), d.Requests)
	}
}
