package fat

import "io"

// A Pair is two files that begin in the same block, by their short names.
type Pair [2]string

// String returns the pair for a message.
func (p Pair) String() string { return p[0] + " and " + p[1] + " share their blocks" }

// Shared searches all directories of a file system for two entries that refer to the same block. found is false if each
// file has blocks of its own.
func Shared(disk io.ReaderAt) (p Pair, found bool, err error) {
	f, err := Open(disk)
	if err != nil {
		return p, false, err
	}
	owner := make(map[uint32]string)
	left := int64(mostDirectories)
	for directories, i := []uint32{0}, 0; i < len(directories); i++ {
		list, err := f.directory(directories[i], &left)
		if err != nil {
			return p, false, err
		}
		for _, e := range list {
			if e.first == 0 { // an empty file has no block
				continue
			}
			if other, taken := owner[e.first]; taken {
				return Pair{other, e.short}, true, nil
			}
			owner[e.first] = e.short // every first cluster is read only once, whatever refers to it
			if e.directory {
				directories = append(directories, e.first)
			}
		}
	}
	return p, false, nil
}
