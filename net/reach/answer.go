package reach

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// maxAnswer limits what a probe reads of an answer.
const maxAnswer = 16 << 10

// judge decides what an answer means, of which p is the beginning. whole says that the server has closed the
// connection behind it.
func (t Target) judge(p []byte, whole bool) Finding {
	head, body, found := bytes.Cut(p, []byte("\r\n\r\n"))
	if !found {
		if head, body, found = bytes.Cut(p, []byte("\n\n")); !found && len(p) < maxAnswer {
			if len(p) == 0 {
				return Finding{Limited, "no answer"}
			}
			return Finding{Portal, "the answer is no HTTP, or was cut off"}
		}
	}
	status, ok := statusOf(head)
	if !ok {
		return Finding{Portal, "the answer is no HTTP"}
	}
	asWanted := status == 200 && bytes.HasPrefix(body, []byte(t.Response))
	if t.Response == "" {
		asWanted = status == 204
	}
	switch {
	case asWanted:
		return Finding{State: Full}
	case status >= 300 && status < 400:
		to := header(head, "location")
		itself := strings.TrimSuffix("https://"+t.authority()+t.Path, "/")
		if t.secure && strings.EqualFold(strings.TrimSuffix(to, "/"), itself) {
			return Finding{State: Full}
		}
		return Finding{Portal, "redirected to " + strconv.QuoteToASCII(cut(to, 200))}
	case status == 511: // RFC 6585
		return Finding{Portal, "the network demands a login"}
	case status >= 500:
		return Finding{Limited, fmt.Sprintf("the server answers with status %d", status)}
	case status == 200 && t.Response != "" && !whole && len(body) < len(t.Response):
		return Finding{Limited, "the answer was cut off"}
	}
	return Finding{Portal, fmt.Sprintf("an answer with status %d that is not the expected one", status)}
}

// statusOf reads the first line of an answer.
func statusOf(head []byte) (int, bool) {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	words := strings.Fields(string(line[:min(len(line), 64)]))
	if len(words) < 2 || !strings.HasPrefix(words[0], "HTTP/1.") || len(words[1]) != 3 {
		return 0, false
	}
	status, err := strconv.Atoi(words[1])
	return status, err == nil && status >= 100
}

// header returns the first value of a header, whose name is written in lower case.
func header(head []byte, name string) string {
	for line := range bytes.Lines(head) {
		key, value, found := bytes.Cut(line, []byte(":"))
		if found && strings.ToLower(string(bytes.TrimSpace(key))) == name {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}

func cut(s string, size int) string {
	if len(s) > size {
		return s[:size] + "…"
	}
	return s
}
