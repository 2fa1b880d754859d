package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// oomScore is this process's own oom_score_adj, lent to a child for the moment of its birth.
type oomScore struct {
	file *os.File // opened at the first use, kept
	own  int      // what restore puts back
	lent bool
}

// set makes the next child be born with score. Without the right to lower a score ours stays as
// it was, the child inherits that, and the error says so.
func (o *oomScore) set(score int) error {
	if o.file == nil {
		f, err := os.OpenFile("/proc/self/oom_score_adj", os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("set oom score: %w", err)
		}
		o.file = f
	}
	if !o.lent { // read anew each time: our own score may have been changed on purpose
		var buf [16]byte
		n, _ := unix.Pread(int(o.file.Fd()), buf[:], 0) // Atoi judges what came; ReadAt would ask twice, for the end of the file
		own, err := strconv.Atoi(strings.TrimSpace(string(buf[:max(0, n)])))
		if err != nil {
			return fmt.Errorf("read own oom score: %w", err)
		}
		o.own = own
	}
	if score == o.own && !o.lent {
		return nil
	}
	if err := o.write(score); err != nil {
		return fmt.Errorf("set oom score %d: %w", score, err)
	}
	o.lent = true
	return nil
}

// restore puts our own score back. Where the kernel refuses, which it does only to a process that
// may raise a score but not lower it, the loan stays marked and the next restore tries again.
func (o *oomScore) restore() {
	if o.lent {
		o.lent = o.write(o.own) != nil
	}
}

func (o *oomScore) write(score int) error {
	_, err := o.file.WriteAt(strconv.AppendInt(nil, int64(score), 10), 0)
	return err
}
