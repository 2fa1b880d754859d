package disk

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Bytes is a size of a disk, a file or memory, or an offset on a disk.
type Bytes int64

// The binary multiples that sizes are written in.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
	TiB Bytes = 1 << 40
)

var units = [...]struct {
	name string
	size Bytes
}{
	{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"B", 1},
}

// String writes b in the largest unit that divides it, such as "40 MiB".
func (b Bytes) String() string {
	for _, u := range units {
		if b != 0 && b%u.size == 0 {
			return fmt.Sprintf("%d %s", b/u.size, u.name)
		}
	}
	return "0 B"
}

// ParseBytes reads a size in any common notation: a whole number with B, KiB, MiB, GiB or TiB, as String writes it. The
// blank between them may be missing ("40MiB"), the letter alone means the same ("40M", "40m"), and a bare number counts
// bytes. MB and kB are refused, because to some people they are powers of 1000.
func ParseBytes(text string) (Bytes, error) {
	digits := strings.TrimSpace(text)
	scale := Bytes(1)
	for _, u := range units {
		head, found := strings.CutSuffix(digits, u.name)
		if !found && u.size > 1 {
			letter := u.name[:1]
			if head, found = strings.CutSuffix(digits, letter); !found {
				head, found = strings.CutSuffix(digits, strings.ToLower(letter))
			}
		}
		if found {
			digits, scale = strings.TrimSpace(head), u.size
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if errors.Is(err, strconv.ErrRange) || err == nil && n > uint64((1<<63-1)/scale) {
		return 0, fmt.Errorf("parse size %q: larger than 8 EiB", text)
	}
	if err != nil {
		return 0, fmt.Errorf("parse size %q: want a whole number with B, KiB, MiB, GiB or TiB, such as 40MiB or 40M",
			text)
	}
	return Bytes(n) * scale, nil
}

// UnmarshalText reads a size from a string in TOML and JSON.
func (b *Bytes) UnmarshalText(text []byte) error {
	v, err := ParseBytes(string(text))
	if err == nil {
		*b = v
	}
	return err
}

// MarshalText writes what UnmarshalText reads.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }
