package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"resinos/images/keyring"
)

const keysLong = `Creates, shows and replaces the keys that updates are signed with.

A directory of keys has private keys (NAME.key) and a trust file, trust.toml: the public keys, how many of them have to
sign an update, and which are revoked. resin build --keys DIRECTORY puts the trust file into an image. resin bundle
--key signs. Keep private keys where only those who release have access; the trust file is no secret.

To replace a key, type resin keys rotate, and sign the next update with both keys: devices that run an older version
know the old key, those that run the new version know both. When all devices run the new version, type resin keys revoke
OLD, and sign with the new key from then on. If a key was stolen, revoke it at once, and sign with another one that the
devices trust already: so create a second key before the first release, and keep it elsewhere.`

func keysCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "keys", Short: "Manages the keys that updates are signed with", Long: keysLong, Args: noArgs,
		Example: "  resin keys new ~/release-keys alice\n  resin keys show ~/release-keys",
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(
		keysShowCommand(),
		changeKeys("new DIRECTORY NAME", "Creates a key, which the trust file lists from then on", 2,
			"  resin keys new ~/release-keys alice\n  resin keys new ~/release-keys bob --threshold 2",
			func(r keyring.Ring, args []string) (keyring.Ring, error) { return r.Create(args[0]) }),
		changeKeys("trust DIRECTORY KEY", "Trusts the public key of somebody else", 2,
			"  resin keys trust ~/release-keys bob+0123abcd+AbCd...",
			func(r keyring.Ring, args []string) (keyring.Ring, error) { return r.Add(args[0]) }),
		changeKeys("rotate DIRECTORY OLD NEW", "Creates a key that will replace another one", 3,
			"  resin keys rotate ~/release-keys alice alice-2027",
			func(r keyring.Ring, args []string) (keyring.Ring, error) { return r.Rotate(args[0], args[1]) }),
		changeKeys("revoke DIRECTORY NAME", "Revokes a key: its signatures do not count any more", 2,
			"  resin keys revoke ~/release-keys alice",
			func(r keyring.Ring, args []string) (keyring.Ring, error) { return r.Revoke(args[0]) }),
		changeKeys("threshold DIRECTORY", "Sets how many keys have to sign an update", 1,
			"  resin keys threshold ~/release-keys --threshold 2",
			func(r keyring.Ring, _ []string) (keyring.Ring, error) { return r, nil }),
	)
	return c
}

// changeKeys returns a command that changes a directory of keys. Its first argument is the directory.
func changeKeys(
	use, short string, args int, example string, change func(keyring.Ring, []string) (keyring.Ring, error),
) *cobra.Command {
	threshold := 0
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: countArgs(args)}
	c.Flags().IntVar(&threshold, "threshold", 0, "how many keys have to sign an update (default: as before)")
	dry := c.Flags().BoolP("dry-run", "n", false, "prints the trust file that it would write")
	c.RunE = func(c *cobra.Command, args []string) error {
		ring, err := keyring.Open(args[0])
		if err != nil {
			return err
		}
		ring.DryRun = *dry
		if ring, err = change(ring, args[1:]); err != nil {
			return err
		}
		if threshold != 0 {
			if ring, err = ring.Require(threshold); err != nil {
				return err
			}
		}
		if *dry {
			_, err = c.OutOrStdout().Write(ring.Trust.Encode())
			return err
		}
		if err := ring.Save(); err != nil {
			return err
		}
		return printKeys(c.OutOrStdout(), ring)
	}
	return c
}

func keysShowCommand() *cobra.Command {
	cache := ""
	c := &cobra.Command{
		Use: "show [DIRECTORY]", Short: "Shows the keys of a directory, or those of this developer",
		Example: "  resin keys show\n  resin keys show ~/release-keys --json",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return countArgs(1)(c, args)
			}
			return nil
		},
	}
	c.Flags().StringVar(&cache, "cache", ".cache", "directory of the developer's key if there is no home directory")
	asJSON := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		dir := keyring.DevelopmentDir(cache)
		if len(args) == 1 {
			dir = args[0]
		}
		ring, err := keyring.Open(dir)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]any{
				"directory": ring.Dir, "threshold": ring.Trust.Threshold, "keys": ring.Keys(),
			})
		}
		return printKeys(c.OutOrStdout(), ring)
	}
	return c
}

func printKeys(w io.Writer, ring keyring.Ring) error {
	if len(ring.Trust.Public) == 0 {
		_, err := fmt.Fprintf(w, "%s: no keys\n", ring.Dir)
		return err
	}
	fmt.Fprintf(w, "%s: %d of %d keys have to sign\n", ring.Dir, ring.Trust.Threshold, len(ring.Trust.Usable()))
	for _, k := range ring.Keys() {
		state := "public key only"
		switch {
		case k.Revoked:
			state = "revoked"
		case k.Private != "":
			state = "private key in " + k.Private
		}
		if _, err := fmt.Fprintf(w, "%s\n    %s\n", k.Public, state); err != nil {
			return err
		}
	}
	return nil
}
