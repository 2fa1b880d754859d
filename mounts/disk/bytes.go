package disk

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes is a size or an offset on a disk.
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

// ParseBytes reads what String writes; the blank may be missing ("40MiB") and a bare number counts bytes.
func ParseBytes(text string) (Bytes, error) {
	digits := strings.TrimSpace(text)
	scale := Bytes(1)
	for _, u := range units {
		if head, found := strings.CutSuffix(digits, u.name); found {
			digits, scale = strings.TrimSpace(head), u.size
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("parse size %q: want a whole number with B, KiB, MiB, GiB or TiB", text)
	}
	if n > int64((1<<63-1)/scale) {
		return 0, fmt.Errorf("parse size %q: larger than 8 EiB", text)
	}
	return Bytes(n) * scale, nil
}

// UnmarshalText lets a size stand as a string in TOML and JSON.
func (b *Bytes) UnmarshalText(text []byte) error {
	v, err := ParseBytes(string(text))
	if err == nil {
		*b = v
	}
	return err
}

// MarshalText writes what UnmarshalText reads.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }
