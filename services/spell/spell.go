// Package spell owns the guess at what somebody meant to type. It knows no words of its own; they are given to it.
// Read Distance first.
package spell

// maxWord is the length in bytes above which a word is far from everything: no key or command of ours is that long, and
// the time must not depend on a stranger's input.
const maxWord = 64

// Distance is how many bytes must be put in, left out or changed to make b of a (Levenshtein). Words above 64 bytes are 64 away
// from everything.
func Distance(a, b string) int {
	if len(a) > maxWord || len(b) > maxWord {
		return maxWord
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
