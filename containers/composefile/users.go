package composefile

import "resinos/containers/composefile/values"

// users decides whether the container has users of its own, with which it cannot be all that others can.
func (c *converter) users() {
	var err error
	if c.c.OwnUsers, err = values.OwnUsers(c.s.UserNSMode); err != nil {
		c.bad("userns_mode", "%v", err)
	}
	for _, key := range values.WithOwnUsers(c.c.OwnUsers, map[string]string{
		"network_mode": c.s.NetworkMode, "pid": c.s.Pid, "ipc": c.s.Ipc, "uts": c.s.Uts}, c.s.Privileged) {
		c.bad(key.Name, "%s", key.Fault)
	}
}
