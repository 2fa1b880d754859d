package getty

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"resinos/init/ownaddress"
)

// sshPort is the port of ssh in development images.
const sshPort = 22222

// facts is the content of the banner.
type facts struct {
	name, version, variant string // of the image, from os-release
	host, device           string
	addresses              []netip.Addr
}

// banner is the text before the first prompt. Lines end in \n; the terminal adds what it needs.
func banner(f facts) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n\n", f.title())
	if len(f.addresses) == 0 {
		b.WriteString("  address   none yet, follows below; see: osctl net\n")
	} else {
		b.WriteString(reached(f.addresses))
	}
	b.WriteString("  services  osctl status\n  log       osctl logs -f\n  boot      osctl boot\n  help      osctl " +
		"help\n\n")
	return b.String()
}

// reached says how the device is reached by addresses, of which there is at least one.
func reached(addresses []netip.Addr) string {
	words := make([]string, len(addresses))
	for i, a := range addresses {
		words[i] = a.String()
	}
	return fmt.Sprintf("  address   %s\n  ssh       ssh -p %d root@%s\n", strings.Join(words, " "), sshPort, words[0])
}

// title says which device and which console this is.
func (f facts) title() string {
	variant := ""
	if f.variant != "" {
		variant = " (" + f.variant + ")"
	}
	return fmt.Sprintf("%s %s%s, %s on %s", f.name, f.version, variant, f.host, f.device)
}

// observe collects the facts. It leaves out what it cannot find, because the shell is more important.
func observe(root, device string) facts {
	text, _ := os.ReadFile(filepath.Join(root, "etc/os-release"))
	f := parseRelease(string(text))
	f.device = strings.TrimPrefix(device, "/dev/")
	f.host, _ = os.Hostname()
	f.addresses = ownaddress.Read()
	return f
}

// parseRelease reads os-release(5).
func parseRelease(text string) facts {
	f := facts{name: "resinOS"}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if unquoted, err := strconv.Unquote(value); err == nil {
			value = unquoted
		} else {
			value = strings.Trim(value, "'")
		}
		switch key {
		case "NAME":
			f.name = value
		case "VERSION_ID":
			f.version = value
		case "VARIANT_ID":
			f.variant = value
		}
	}
	return f
}
