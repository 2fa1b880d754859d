package confine

// The exit statuses of Main: one for each step, in a range that shells, signals and sysexits(3) do not use.
const (
	exitOrders = 210 + iota
	exitRlimit
	exitNice
	exitMount
	exitBound
	exitUser
	exitCapability
	exitPrivileges
	exitSeccomp
	exitExec
	exitDirectory
	exitEnd
)

var exits = [exitEnd]string{
	exitOrders:     "its launch orders are wrong",
	exitRlimit:     "its rlimits are refused",
	exitNice:       "its nice value is refused",
	exitMount:      "its view of the file system cannot be made",
	exitBound:      "its capabilities cannot be bounded",
	exitUser:       "its user or group does not exist",
	exitCapability: "its capabilities are refused",
	exitPrivileges: "no-new-privileges is refused",
	exitSeccomp:    "its seccomp profile is refused",
	exitExec:       "its program cannot be executed",
	exitDirectory:  "its working directory cannot be entered",
}

// ExitText explains an exit status of Main to people, as the end of "service x failed: …". It is empty for a status
// that Main does not return. A program may of course end with such a status itself.
func ExitText(code int) string {
	if code < 0 || code >= exitEnd {
		return ""
	}
	return exits[code]
}
