package logd

import (
	"fmt"
	"strconv"
	"strings"
)

// minRing holds a few hundred lines; less is a mistake of the owner.
const minRing = 64 << 10

// ParseSize reads the size of a ring: a number of bytes, or of K, M or G.
func ParseSize(text string) (int64, error) {
	digits, shift := text, 0
	for i, unit := range []string{"K", "M", "G"} {
		if rest, ok := strings.CutSuffix(strings.ToUpper(text), unit); ok {
			digits, shift = rest, 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("parse size %q: not a number like 8M", text)
	}
	size := int64(n) << shift
	if size < minRing || size > 1<<40 {
		return 0, fmt.Errorf("parse size %q: not between 64K and 1024G", text)
	}
	return size, nil
}
