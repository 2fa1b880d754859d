// Package oomscore sets the oom_score_adj of child processes. A child inherits the score of its parent, so the parent
// changes its own score for the moment of the fork: neither the child nor what it forks ever has the wrong one. Read
// Loan first.
package oomscore

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Loan is this process's own oom_score_adj, lent to a child for the moment of its start. The zero Loan is ready for
// use. One goroutine uses it at a time, and a process has one.
type Loan struct {
	file *os.File // opened at the first use
	own  int      // what Restore restores
	lent bool
}

// Set gives the next child this score. Without the right to lower a score, our own stays as it was, the child inherits
// it, and the error reports that.
func (o *Loan) Set(score int) error {
	if o.file == nil {
		f, err := os.OpenFile("/proc/self/oom_score_adj", os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("set oom score: %w", err)
		}
		o.file = f
	}
	if !o.lent { // read each time: our own score may have been changed on purpose
		var buf [16]byte
		// Atoi checks the content; ReadAt would read twice, to find the end of the file
		n, _ := unix.Pread(int(o.file.Fd()), buf[:], 0)
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

// Restore restores our own score. If the kernel refuses, which it does only to a process that may raise a score but not
// lower it, the loan stays marked and the next Restore tries again.
func (o *Loan) Restore() {
	if o.lent {
		o.lent = o.write(o.own) != nil
	}
}

func (o *Loan) write(score int) error {
	_, err := o.file.WriteAt(strconv.AppendInt(nil, int64(score), 10), 0)
	return err
}

// mu guards loan, which the goroutines of a process share.
var (
	mu   sync.Mutex
	loan Loan
)

// Born calls start, which starts a child, so that the child has score. It returns the result of start: if this process
// may not change its score, the child inherits it, because a session with the wrong score is better than none.
func Born(score int, start func() error) error {
	mu.Lock()
	defer mu.Unlock()
	defer loan.Restore()
	_ = loan.Set(score)
	return start()
}
