package tables

import "strings"

// A place is the line of a key. Keys of inline tables count as the key that holds the table.
type place struct {
	key  string
	line int
}

// places finds the keys of a TOML text line by line. It finds lines for messages and is not a parser: if it misses a
// key, only the message lacks its exact line.
func places(text string) []place {
	var all []place
	table, holder := "", ""
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[' && holder == "":
			table = strings.TrimSpace(strings.Trim(cutComment(line), "[] "))
			all = append(all, place{table, i + 1})
			table += "."
		default:
			all, holder = keysOf(all, line, table, holder, i+1)
		}
	}
	return all
}

// keysOf adds the keys of one line. holder is the key whose value is still open (a list over several lines), if any.
func keysOf(all []place, line, table, holder string, number int) ([]place, string) {
	depth, quoted, word := 0, byte(0), ""
	prefix := table
	if holder != "" {
		prefix, depth = holder+".", 1
	}
	for i := range len(line) {
		c := line[i]
		switch {
		case quoted != 0:
			if c == quoted {
				quoted = 0
			}
		case c == '"' || c == '\'':
			quoted, word = c, ""
		case c == '#':
			return all, open(holder, depth)
		case c == '=':
			key := prefix + strings.TrimSpace(word)
			all = append(all, place{key, number})
			if depth == 0 {
				holder, prefix = key, key+"."
			}
			word = ""
		case c == '[' || c == '{':
			depth, word = depth+1, ""
		case c == ']' || c == '}':
			depth, word = depth-1, ""
		case c == ',':
			word = ""
		default:
			word += string(c)
		}
	}
	return all, open(holder, depth)
}

func open(holder string, depth int) string {
	if depth <= 0 {
		return ""
	}
	return holder
}

func cutComment(line string) string {
	head, _, _ := strings.Cut(line, "#")
	return head
}
