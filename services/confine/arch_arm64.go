package confine

import "golang.org/x/sys/unix"

// auditArch is the kernel's number of this architecture, which a filter gets with each call.
const auditArch = unix.AUDIT_ARCH_AARCH64
