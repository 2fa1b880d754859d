package savedstate

import (
	"fmt"
	"os"

	"resinos/services/hold"
)

// Files collects the descriptors that a state refers to. They still belong to the caller.
type Files []*os.File

// Add appends f and returns its position.
func (l *Files) Add(f *os.File) int {
	*l = append(*l, f)
	return len(*l) - 1
}

// Descriptors are the numbers of the Files of the earlier life. Each is given out once only: with two owners, the
// second to close it would close a descriptor of somebody else.
type Descriptors []int

// Take returns the descriptor at position i, which then belongs to the caller.
func (d Descriptors) Take(i int) (int, error) {
	if i < 0 || i >= len(d) || d[i] < 0 {
		return -1, fmt.Errorf("descriptor %d of %d is missing or was taken before", i, len(d))
	}
	fd := d[i]
	d[i] = -1
	return fd, nil
}

// Hold is Take for a descriptor that PID 1 only keeps for others and never reads.
func (d Descriptors) Hold(i int, name string) (*os.File, error) {
	fd, err := d.Take(i)
	if err != nil {
		return nil, err
	}
	return hold.File(fd, name)
}
