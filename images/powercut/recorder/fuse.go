package recorder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The kernel's FUSE protocol, version 7.31 (include/uapi/linux/fuse.h): each read of /dev/fuse returns one request, and
// each write answers one. All numbers are in the order of the host.
//
//	request  u32 length  u32 operation  u64 number  u64 node  u32 uid  u32 gid  u32 pid  u32    arguments
//	answer   u32 length  s32 -errno     u64 number                                              result
const (
	opLookup, opForget, opGetattr, opSetattr            = 1, 2, 3, 4
	opOpen, opRead, opWrite, opStatfs, opRelease        = 14, 15, 16, 17, 18
	opFsync, opFlush, opInit, opOpendir                 = 20, 25, 26, 27
	opReaddir, opReleasedir, opFsyncdir                 = 28, 29, 30
	opInterrupt, opDestroy, opBatchForget               = 36, 38, 42
	requestHead, root                                   = 40, 1
	mostData                                            = 1 << 20
	directIO, bigWrites, asyncRead, maxPages            = 1 << 0, 1 << 5, 1 << 0, 1 << 22
	modeDirectory, modeFile                      uint32 = unix.S_IFDIR | 0o755, unix.S_IFREG | 0o600
)

// answer is put together from numbers of several sizes.
type answer struct{ bytes.Buffer }

func (a *answer) put(values ...any) {
	for _, v := range values {
		_ = binary.Write(a, binary.NativeEndian, v) // into memory
	}
}

// serve answers until the file system is unmounted.
func (r *Recorder) serve() error {
	buf := make([]byte, mostData+4096)
	for {
		n, err := unix.Read(r.fuse, buf)
		switch {
		case errors.Is(err, unix.ENODEV): // unmounted
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAGAIN):
			continue // the request was given up
		case err != nil:
			return fmt.Errorf("read request: %w", err)
		case n < requestHead:
			return fmt.Errorf("request of %d bytes", n)
		}
		if err := r.request(buf[:n]); err != nil {
			return err
		}
	}
}

func (r *Recorder) request(in []byte) error {
	operation := binary.NativeEndian.Uint32(in[4:])
	switch operation {
	case opForget, opBatchForget, opInterrupt:
		return nil // they want no answer
	}
	var result answer
	var errno int32
	if err := r.do(operation, binary.NativeEndian.Uint64(in[16:]), in[requestHead:], &result); err != nil {
		var no unix.Errno
		if !errors.As(err, &no) {
			no = unix.EIO
			r.mu.Lock()
			r.faults = append(r.faults, err)
			r.mu.Unlock()
		}
		errno = -int32(no)
		result.Reset()
	}
	var out answer
	out.put(uint32(16+result.Len()), errno, in[8:16], result.Bytes())
	if _, err := unix.Write(r.fuse, out.Bytes()); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("answer operation %d: %w", operation, err)
	}
	return nil
}

func (r *Recorder) do(operation uint32, node uint64, in []byte, out *answer) error {
	switch operation {
	case opInit:
		out.put(uint32(7), uint32(31), binary.NativeEndian.Uint32(in[8:]), uint32(asyncRead|bigWrites|maxPages),
			uint16(16), uint16(12), uint32(mostData), uint32(1), uint16(mostData/4096), uint16(0), [8]uint32{})
		return nil
	case opLookup:
		return r.lookup(string(bytes.TrimRight(in, "\x00")), out)
	case opGetattr, opSetattr:
		out.put(uint64(1<<20), uint64(0)) // valid for good
		return r.attributes(node, out)
	case opOpen, opOpendir:
		out.put(uint64(0), uint32(directIO), uint32(0))
		return nil
	case opStatfs:
		out.put([10]uint64{})
		return nil
	case opFlush, opRelease, opReleasedir, opFsyncdir, opReaddir, opDestroy:
		return nil
	}
	if node <= root || int(node-root) > len(r.parts) {
		return unix.ENOSYS
	}
	return r.content(operation, r.parts[node-root-1], in, out)
}

// content is what changes or reads a part.
func (r *Recorder) content(operation uint32, p Part, in []byte, out *answer) error {
	switch operation {
	case opFsync:
		return r.sync(p)
	case opRead, opWrite:
	default:
		return unix.ENOSYS
	}
	at, size := int64(binary.NativeEndian.Uint64(in[8:])), int64(binary.NativeEndian.Uint32(in[16:]))
	if operation == opWrite {
		out.put(uint32(size), uint32(0))
		return r.write(p, at, in[40:][:size])
	}
	data := make([]byte, max(min(size, p.Size-at), 0))
	if _, err := r.disk.ReadAt(data, p.Start+at); err != nil {
		return err
	}
	out.put(data)
	return nil
}

func (r *Recorder) lookup(name string, out *answer) error {
	for i, p := range r.parts {
		if p.Name == name {
			node := uint64(i + 1 + root)
			out.put(node, uint64(0), uint64(1<<20), uint64(1<<20), uint64(0))
			return r.attributes(node, out)
		}
	}
	return unix.ENOENT
}

// attributes are struct fuse_attr of a node.
func (r *Recorder) attributes(node uint64, out *answer) error {
	mode, size := modeDirectory, int64(0)
	if node != root {
		if int(node-root) > len(r.parts) {
			return unix.ENOENT
		}
		mode, size = modeFile, r.parts[node-root-1].Size
	}
	out.put(node, uint64(size), uint64((size+511)/512), [3]uint64{}, [3]uint32{}, mode, uint32(1), [3]uint32{},
		uint32(4096), uint32(0))
	return nil
}
