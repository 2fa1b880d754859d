package keyfile

import "strings"

// Ignored reports whether NetworkManager ignores a file in the directory of key files because of its name: hidden
// files, backups of editors, temporary files (which end in a dot and six letters or digits), and certificates.
func Ignored(name string) bool {
	if name == "" || name[0] == '.' || strings.HasSuffix(name, "~") {
		return true
	}
	lower := strings.ToLower(name)
	for _, suffix := range []string{".pem", ".der"} {
		if strings.HasSuffix(lower, suffix) && len(name) > len(suffix) {
			return true
		}
	}
	dot := strings.LastIndexByte(name, '.')
	return dot >= 0 && len(name)-dot-1 == 6 && !strings.ContainsFunc(name[dot+1:], func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9')
	})
}
