package udevrules

import (
	"os"
	"strconv"
	"strings"
)

// ReadNames reads the users of a file in the form of passwd(5) and the groups of one in that of group(5). A file that
// cannot be read has no names, and a rule with one is then refused.
func ReadNames(passwd, group string) Names {
	return Names{Users: readIDs(passwd), Groups: readIDs(group)}
}

// readIDs reads NAME:PASSWORD:NUMBER:..., which begins the lines of both files.
func readIDs(file string) map[string]int {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	ids := map[string]int{}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 3 {
			continue
		}
		if n, err := strconv.ParseUint(f[2], 10, 31); err == nil {
			ids[f[0]] = int(n)
		}
	}
	return ids
}
