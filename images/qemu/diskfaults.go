package qemu

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// faultyDisk returns a disk with QEMU's blkdebug above its format, so that sectors are those that the guest counts. The
// guest hears of each fault; by default, QEMU stops the guest for some.
//
//	guest -> blkdebug -> raw or qcow2 -> file
func faultyDisk(d Disk, faults []Fault, model string) []string {
	format := d.Format
	if format == "" {
		format = "raw"
	}
	debug := "driver=blkdebug,node-name=disk0,image=disk0-format"
	for i, f := range faults {
		access, once, errno := "read", "off", unix.EIO
		if f.Write {
			access = "write"
		}
		if f.Once {
			once = "on"
		}
		if f.NoSpace {
			errno = unix.ENOSPC
		}
		debug += fmt.Sprintf(",inject-error.%d.event=none,inject-error.%d.iotype=%s,inject-error.%d.errno=%d,"+
			"inject-error.%d.sector=%d,inject-error.%d.once=%s", i, i, access, i, errno, i, f.Sector, i, once)
	}
	return []string{
		"-blockdev", "driver=file,node-name=disk0-file,filename=" + escape(d.Path),
		"-blockdev", "driver=" + format + ",node-name=disk0-format,file=disk0-file",
		"-blockdev", debug,
		"-device", model + ",drive=disk0,bootindex=0,rerror=report,werror=report",
	}
}
