package confine

// The exit codes of Main: one for each step, in a range that shells, signals and sysexits(3) leave alone.
const (
	exitOrders = 210 + iota
	exitDescriptor
	exitRlimit
	exitNice
	exitMount
	exitBound
	exitUser
	exitCapability
	exitPrivileges
	exitSeccomp
	exitExec
	exitEnd
)

var exits = [exitEnd - exitOrders]string{
	exitOrders - exitOrders:     "its launch orders are wrong",
	exitDescriptor - exitOrders: "its ready descriptor is in the way",
	exitRlimit - exitOrders:     "its rlimits are refused",
	exitNice - exitOrders:       "its nice value is refused",
	exitMount - exitOrders:      "its view of the file system cannot be made",
	exitBound - exitOrders:      "its capabilities cannot be bounded",
	exitUser - exitOrders:       "its user or group does not exist",
	exitCapability - exitOrders: "its capabilities are refused",
	exitPrivileges - exitOrders: "no-new-privileges is refused",
	exitSeccomp - exitOrders:    "its seccomp profile is refused",
	exitExec - exitOrders:       "its program cannot be executed",
}

// ExitText says for people what an exit code of Main means, as the end of "service x failed: …". It is empty for a code that
// Main does not return. A program may of course end with such a code itself.
func ExitText(code int) string {
	if code < exitOrders || code >= exitEnd {
		return ""
	}
	return exits[code-exitOrders]
}
