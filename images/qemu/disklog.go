package qemu

// recordedDisk returns the image with QEMU's blklogwrites below it: the log contains every write and flush of the guest
// in the order in which QEMU received them, in the format of Linux' dm-log-writes (images/powercut reads it).
//
//	guest -> blklogwrites -> raw -> image
//	                      -> raw -> log
//
// The count of entries in the log is updated at each entry; by default it lags 4096 behind. The host's fsync is left
// out for both files: the log shows what the guest flushed, and nobody cuts the host's power.
func recordedDisk(o Options, model string) []string {
	file := func(node, path string) []string {
		return []string{
			"-blockdev", "driver=file,node-name=" + node + "-file,cache.no-flush=on,discard=unmap,filename=" +
				escape(path),
			"-blockdev", "driver=raw,node-name=" + node + ",discard=unmap,file=" + node + "-file",
		}
	}
	args := append(file("image", o.Image), file("log", o.WriteLog)...)
	return append(args,
		"-blockdev",
		"driver=blklogwrites,node-name=disk0,file=image,log=log,log-sector-size=512,"+
			"log-super-update-interval=1,discard=unmap",
		"-device", model+",drive=disk0,bootindex=0")
}
