package confine

import (
	"slices"
	"strconv"
	"strings"
)

// rootHome is the HOME that the service manager gives every service.
const rootHome = "/root"

// split separates the orders from an environment.
func split(environ []string) (orders string, rest []string) {
	for _, e := range environ {
		if text, found := strings.CutPrefix(e, Variable+"="); found {
			orders = text
		} else {
			rest = append(rest, e)
		}
	}
	return orders, rest
}

// environment adds the variables about descriptors and the watchdog, sd_listen_fds(3) and sd_watchdog_enabled(3). Both
// contain the pid, which does not change when the process becomes the program.
func environment(environ []string, l Launch, pid int) []string {
	environ = unset(environ, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC")
	if l.Listen > 0 {
		environ = append(environ, "LISTEN_PID="+strconv.Itoa(pid), "LISTEN_FDS="+strconv.Itoa(l.Listen))
		if len(l.Names) > 0 {
			environ = append(environ, "LISTEN_FDNAMES="+strings.Join(l.Names, ":"))
		}
	}
	if l.Watchdog > 0 {
		environ = append(environ, "WATCHDOG_PID="+strconv.Itoa(pid),
			"WATCHDOG_USEC="+strconv.FormatInt(l.Watchdog.Microseconds(), 10))
	}
	return environ
}

// userEnvironment sets the variables about the user. What the service's file sets stays; root's home is that of the
// service manager.
func userEnvironment(environ []string, a account) []string {
	if slices.Contains(environ, "HOME="+rootHome) {
		environ = unset(environ, "HOME")
	}
	for _, add := range []string{"HOME=" + a.home, "USER=" + a.name, "LOGNAME=" + a.name} {
		key, _, _ := strings.Cut(add, "=")
		if !slices.ContainsFunc(environ, func(e string) bool { return strings.HasPrefix(e, key+"=") }) {
			environ = append(environ, add)
		}
	}
	return environ
}

func unset(environ []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(e string) bool {
		key, _, _ := strings.Cut(e, "=")
		return slices.Contains(names, key)
	})
}
