package confine

import "golang.org/x/sys/unix"

// auditArch is how the kernel names the calls of this architecture to a filter.
const auditArch = unix.AUDIT_ARCH_AARCH64
