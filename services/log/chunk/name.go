package chunk

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseFileName is the reverse of FileName.
func ParseFileName(name string) (first uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, Suffix)
	first, err := strconv.ParseUint(digits, 16, 64)
	return first, ok && err == nil && FileName(first) == name
}

// Suffix ends the name of a chunk.
const Suffix = ".chunk"

// FileName returns the name of the chunk whose first entry is first.
func FileName(first uint64) string {
	digits := strconv.FormatUint(first, 16)
	return fmt.Sprintf("%s%s%s", strings.Repeat("0", 16-len(digits)), digits, Suffix)
}
