package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// budgets compares files with .ci/budgets.txt: "PATH BYTES" a line. A file that was not built is a fault:
// make check builds what the table names first.
func budgets(*tree) ([]string, error) {
	rows, err := table("budgets.txt")
	if err != nil {
		return nil, err
	}
	var faults []string
	for _, r := range rows {
		path, limit, err := budget(r)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(path)
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s is not built: run make budget-files", path))
			continue
		}
		fmt.Printf("    %-52s %6.2f MB of %6.2f\n", path, float64(info.Size())/1e6, float64(limit)/1e6)
		if info.Size() > limit {
			faults = append(faults, fmt.Sprintf("%s is %d bytes, %d over its budget of %d", path, info.Size(),
				info.Size()-limit, limit))
		}
	}
	return faults, nil
}

func budget(row string) (path string, limit int64, err error) {
	fields := strings.Fields(row)
	if len(fields) != 2 {
		return "", 0, fmt.Errorf("budgets.txt: %q is not PATH BYTES", row)
	}
	limit, err = strconv.ParseInt(strings.ReplaceAll(fields[1], "_", ""), 10, 64)
	if err != nil {
		return "", 0, fmt.Errorf("budgets.txt: %q: %w", row, err)
	}
	return fields[0], limit, nil
}
