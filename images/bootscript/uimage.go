package bootscript

import (
	"encoding/binary"
	"hash/crc32"
)

// Numbers of U-Boot's include/image.h.
const (
	imageMagic  = 0x27051956
	imageLinux  = 5
	imageScript = 6
)

var imageArch = map[string]byte{"arm": 2, "386": 3, "arm64": 22, "amd64": 24, "riscv64": 26}

// wrap puts a script into U-Boot's legacy image:
//
//	0  magic   4  header crc32   8  time   12  size   16  load   20  entry   24  data crc32
//	28 os, arch, type, compression   32  name (32 bytes)   64  length of script, 0   72  script
func wrap(script, arch string, epoch int64) []byte {
	data := binary.BigEndian.AppendUint32(nil, uint32(len(script)))
	data = append(append(data, 0, 0, 0, 0), script...)
	header := make([]byte, 64)
	for at, v := range map[int]uint32{0: imageMagic, 8: uint32(epoch), 12: uint32(len(data)),
		24: crc32.ChecksumIEEE(data)} {
		binary.BigEndian.PutUint32(header[at:], v)
	}
	copy(header[28:], []byte{imageLinux, imageArch[arch], imageScript, 0})
	copy(header[32:], "resinOS boot script")
	binary.BigEndian.PutUint32(header[4:], crc32.ChecksumIEEE(header))
	return append(header, data...)
}
