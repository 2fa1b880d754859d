package sshroot

import (
	"fmt"
	"strings"
	"testing"
)

func TestSplitWords(t *testing.T) {
	for command, want := range map[string]string{
		"osctl status":              `["osctl" "status"]`,
		"  a\tb  ":                  `["a" "b"]`,
		`a 'b c' "d e"f \g`:         `["a" "b c" "d ef" "g"]`,
		`a '' ""`:                   `["a" "" ""]`,
		`a '$x' "it's"`:             `["a" "$x" "it's"]`,
		"scp -t -- /mnt/data/x.tar": `["scp" "-t" "--" "/mnt/data/x.tar"]`,
		"":                          "no command",
		" ":                         "no command",
		"a | b":                     "'|'",
		"a; b":                      "';'",
		"a\nb":                      "'\\n'",
		"a $x":                      "'$'",
		`a "$x"`:                    "'$'",
		"a *":                       "'*'",
		"a 'b":                      "not closed",
		`a \`:                       "not closed",
	} {
		words, err := splitWords(command)
		got := fmt.Sprintf("%q", words)
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != want || err != nil && !strings.Contains(got, want) {
			t.Errorf("splitWords(%q) = %s, want %s", command, got, want)
		}
	}
}
