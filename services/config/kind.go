package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"resinos/mounts/disk"
	"resinos/services/hostname"
	"resinos/services/rootca"
)

// read converts a written value into the form of the kind. set is false for null, which stands for no value.
func (k Kind) read(raw json.RawMessage) (value any, set bool, err error) {
	if string(raw) == "null" {
		return nil, false, nil
	}
	switch k {
	case Text:
		value, err = readText(raw)
	case Flag:
		value, err = readFlag(raw)
	case Number:
		value, err = readNumber(raw)
	case Words, Lines:
		value, err = readList(raw, k == Words)
	case Table:
		var table map[string]string
		if json.Unmarshal(raw, &table) != nil {
			err = errors.New("want an object of strings")
		}
		value = table
	default:
		value = raw
	}
	return value, err == nil, err
}

func readText(raw json.RawMessage) (string, error) {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s, nil
	}
	var n json.Number
	if json.Unmarshal(raw, &n) == nil {
		return string(raw), nil
	}
	return "", errors.New("want a string")
}

func readFlag(raw json.RawMessage) (bool, error) {
	s, err := readText(raw)
	if err != nil {
		s = string(raw)
	}
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off", "":
		return false, nil
	}
	return false, errors.New("want true or false")
}

func readNumber(raw json.RawMessage) (int64, error) {
	s, err := readText(raw)
	if err == nil {
		var n int64
		if n, err = strconv.ParseInt(strings.TrimSpace(s), 10, 64); err == nil && n >= 0 {
			return n, nil
		}
	}
	return 0, errors.New("want a whole number, 0 or more")
}

func readList(raw json.RawMessage, split bool) ([]string, error) {
	var list []string
	if json.Unmarshal(raw, &list) != nil {
		s, err := readText(raw)
		if err != nil {
			return nil, errors.New("want a string, or an array of strings")
		}
		list = []string{s}
	}
	out := []string{}
	for _, one := range list {
		if one = strings.TrimSpace(one); !split && one != "" {
			out = append(out, one)
			continue
		}
		for _, word := range strings.FieldsFunc(one, func(r rune) bool {
			return r == ',' || r == ' ' || r == '\t' ||
				r == '\n'
		}) {
			if word != "null" {
				out = append(out, word)
			}
		}
	}
	return out, nil
}

// fit checks a value that has the form of its kind, and returns the part of it that can be used; the error says what
// cannot.
type fit func(value any) (usable any, err error)

// The limits of the log's ring: less than minRing is a mistake of the owner, and logd accepts no less; maxRing is what
// fits into logd's memory limit.
const (
	minRing = 64 * disk.KiB
	maxRing = 32 * disk.MiB
)

func ringSize(value any) (any, error) {
	s, _ := value.(string)
	if s = strings.TrimSpace(s); s == "" {
		return nil, nil // as if it were missing
	}
	size, err := disk.ParseBytes(s)
	switch {
	case err != nil:
		return nil, err
	case size < minRing:
		return nil, fmt.Errorf("less than %v", minRing)
	case size > maxRing:
		return nil, fmt.Errorf("more than %v: for that, raise memory-high of the service logd and give it the "+
			"flag -ring", maxRing)
	}
	return s, nil
}

func hostName(value any) (any, error) {
	s, _ := value.(string)
	if s == "" {
		return nil, nil // as if it were missing
	}
	if !hostname.ValidLabel(s) {
		return nil, fmt.Errorf("%.80q is not a host name: letters, digits and hyphens, at most 63", s)
	}
	return s, nil
}

func uuid(value any) (any, error) {
	s, _ := value.(string)
	if s == "" {
		return nil, nil
	}
	s = strings.ToLower(s)
	if len(s) < 32 || len(s) > 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return nil, errors.New("want 32 hex digits, at most 64")
	}
	return s, nil
}

func country(value any) (any, error) {
	s, _ := value.(string)
	if s == "" {
		return nil, nil
	}
	s = strings.ToUpper(s)
	if len(s) != 2 || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return nil, errors.New("want two letters")
	}
	return s, nil
}

func port(value any) (any, error) {
	if n, _ := value.(int64); n < 1 || n > 65535 {
		return nil, errors.New("want a port, 1 to 65535")
	}
	return value, nil
}

// maxList limits every list; no real one is nearly as long.
const maxList = 256

// each keeps the good entries of a list, and nothing of a list that has only bad ones.
func each(good func(string) (string, bool), want string) fit {
	return func(value any) (any, error) {
		list, _ := value.([]string)
		kept := []string{}
		var bad []string
		for i, one := range list {
			if s, ok := good(one); ok && i < maxList {
				kept = append(kept, s)
			} else {
				bad = append(bad, fmt.Sprintf("%.60q", one))
			}
		}
		if len(bad) > 0 {
			var usable any
			if len(kept) > 0 {
				usable = kept
			}
			return usable, fmt.Errorf("%s: want %s, at most %d", strings.Join(bad[:min(len(bad), 3)], ", "), want,
				maxList)
		}
		return kept, nil
	}
}

func addresses(value any) (any, error) {
	return each(func(s string) (string, bool) {
		a, err := netip.ParseAddr(s)
		return a.Unmap().String(), err == nil && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
	}, "addresses in numbers")(value)
}

func hosts(value any) (any, error) {
	return each(func(s string) (string, bool) {
		s = strings.TrimSuffix(s, ".") // of an absolute name
		return s, hostname.ValidServer(s)
	}, "names or addresses of hosts")(value)
}

func openPorts(value any) (any, error) {
	return each(func(s string) (string, bool) {
		protocol, ports, _ := strings.Cut(s, ":")
		first, last, several := strings.Cut(ports, "-")
		if !several {
			last = first
		}
		low, errLow := strconv.ParseUint(first, 10, 16)
		high, errHigh := strconv.ParseUint(last, 10, 16)
		fits := errLow == nil && errHigh == nil && low > 0 && low <= high && strings.Trim(ports, "0123456789-") == ""
		return s, fits && (protocol == "tcp" || protocol == "udp")
	}, "ports like tcp:8080 or udp:5000-5010")(value)
}

func lines(value any) (any, error) {
	return each(func(s string) (string, bool) { return s, len(s) <= 16<<10 && !strings.ContainsAny(s, "\n\r") },
		"single lines")(value)
}

// probeURL accepts what a probe can ask: netd does not speak TLS, but a server that redirects to its https URL has
// answered.
func probeURL(value any) (any, error) {
	text, _ := value.(string)
	lower := strings.ToLower(text)
	if text == "" || text == "null" || strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "https://") {
		return value, nil
	}
	return nil, errors.New("want http://HOST/PATH")
}

// rootCA accepts what the device can add to its certificates.
func rootCA(value any) (any, error) {
	text, _ := value.(string)
	if _, err := rootca.Parse(text); err != nil {
		return nil, err
	}
	return text, nil
}

// firmwareVolume accepts APP/VOLUME: each a single name, because the value becomes a path.
func firmwareVolume(value any) (any, error) {
	text, _ := value.(string)
	app, volume, found := strings.Cut(text, "/")
	for _, name := range []string{app, volume} {
		if !found || name == "" || strings.HasPrefix(name, ".") || strings.ContainsFunc(name, unfitForName) {
			return nil, errors.New("want APP/VOLUME: the names of an app and of one of its volumes")
		}
	}
	return text, nil
}

func unfitForName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
}
