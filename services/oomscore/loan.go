// Package oomscore owns the lending of a process's oom_score_adj to the children it makes: a child has the score of its maker from its
// first instruction on, so a maker that takes another one for the moment of a birth leaves no moment in which the child, or what it forks, has
// the wrong one. Read Loan first.
package oomscore

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Loan is this process's own oom_score_adj, lent to a child for the moment of its birth. The zero Loan is ready. It is used by one
// goroutine at a time, and there is one in a process.
type Loan struct {
	file *os.File // opened at the first use, kept
	own  int      // what Restore puts back
	lent bool
}

// Set makes the next child be born with score. Without the right to lower a score ours stays as
// it was, the child inherits that, and the error says so.
func (o *Loan) Set(score int) error {
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

// Restore puts our own score back. Where the kernel refuses, which it does only to a process that
// may raise a score but not lower it, the loan stays marked and the next Restore tries again.
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

// Born calls start, which makes a child, so that the child has score. It returns what start does: where this process may not change its
// score, the child inherits it, and a session with the wrong score is better than none.
func Born(score int, start func() error) error {
	mu.Lock()
	defer mu.Unlock()
	defer loan.Restore()
	_ = loan.Set(score)
	return start()
}
