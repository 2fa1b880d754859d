package sshroot

import (
	"errors"
	"fmt"
	"strings"
)

// splitWords splits a command where there is no shell as a shell would: at blanks, with quotes and backslashes, and
// nothing more. What only a shell can do is refused instead of being misread.
func splitWords(command string) ([]string, error) {
	const special = "|&;<>()$`*?[~#\n"
	var words []string
	var word strings.Builder
	var quote rune // the open quote, or 0
	begun, escaped := false, false
	for _, r := range command {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, begun = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == '"' && (r == '$' || r == '`'), quote == 0 && strings.ContainsRune(special, r):
			return nil, fmt.Errorf("this device has no shell: it cannot do %q", r)
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == ' ' || r == '\t':
			if begun {
				words = append(words, word.String())
				word.Reset()
				begun = false
			}
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("a quote is not closed")
	}
	if begun {
		words = append(words, word.String())
	}
	if len(words) == 0 {
		return nil, errors.New("no command")
	}
	return words, nil
}
