package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// piece is how much of the program the kernel maps at once after shed. Without it, these are 64 kB around each address
// that is used, by which nearly all of the program comes to be mapped within minutes. Each piece costs 200 bytes of the
// kernel.
const piece = 16 << 10

// mapping is a part of the program in memory.
type mapping struct{ start, end uintptr }

// mappings reads those parts of the program at path from the text of /proc/self/maps that nothing is ever written to.
func mappings(text, path string) (out []mapping) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[5] != path || !strings.HasPrefix(fields[1], "r-") {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, err := strconv.ParseUint(from, 16, 64)
		end, fault := strconv.ParseUint(to, 16, 64)
		if err == nil && fault == nil && start < end {
			out = append(out, mapping{uintptr(start), uintptr(end)})
		}
	}
	return out
}

// shed unmaps the program, and has the kernel map only pieces of it again. The pages stay in the cache of the kernel,
// which may drop those that nobody uses. The pieces are mappings of their own because every other one is left out of
// core dumps, which has no effect of its own: the kernel never maps beyond the end of a mapping.
func shed() error {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	var fault error
	for _, m := range mappings(string(text), path) {
		for at := m.start; at < m.end; at += piece - at%piece {
			length := min(piece-at%piece, m.end-at)
			advice := unix.MADV_DODUMP
			if at/piece%2 == 1 {
				advice = unix.MADV_DONTDUMP
			}
			fault = errors.Join(fault, advise(at, length, advice))
		}
		fault = errors.Join(fault, advise(m.start, m.end-m.start, unix.MADV_DONTNEED))
	}
	return fault
}

func advise(at, length uintptr, advice int) error {
	if _, _, errno := syscall.Syscall(unix.SYS_MADVISE, at, length, uintptr(advice)); errno != 0 {
		return fmt.Errorf("advise on the program at %x: %w", at, errno)
	}
	return nil
}
