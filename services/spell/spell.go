// Package spell finds the known word that is closest to a mistyped one. It has no words of its own; the caller passes
// them in. Read Distance first.
package spell

// maxWord is the length in bytes above which a word is far from everything: none of our keys or commands is that long,
// and the time must not depend on a stranger's input.
const maxWord = 64

// Distance is the number of bytes that must be inserted, removed or changed to turn a into b (Levenshtein). Words above
// 64 bytes are 64 away from everything.
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
