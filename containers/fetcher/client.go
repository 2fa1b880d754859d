package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
)

// Failure is a request that failed.
type Failure struct {
	Cause Cause
	Text  string
}

// Error is one line for people.
func (f Failure) Error() string { return f.Text }

// Process is a running fetcher, as the process sees it that asks. It may be asked from several goroutines.
type Process struct {
	conn     *net.UnixConn
	cmd      *exec.Cmd
	listened chan struct{} // closed by listen at its end
	closing  sync.Once

	mu      sync.Mutex // guards what follows
	last    int
	waiting map[int]chan Reply
	ended   error // the fetcher is gone
}

// Start starts cmd as a fetcher; its descriptor 3 is the connection. The caller closes the process.
func Start(cmd *exec.Cmd) (*Process, error) {
	ours, theirs, err := Pair()
	if err != nil {
		return nil, fmt.Errorf("start fetcher: %w", err)
	}
	defer theirs.Close() // the child has it
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		_ = ours.Close() // nobody is there
		return nil, fmt.Errorf("start fetcher: %w", err)
	}
	p := &Process{conn: ours, cmd: cmd, listened: make(chan struct{}), waiting: map[int]chan Reply{}}
	go p.listen() // ends with the fetcher
	return p, nil
}

// Close ends the fetcher, whatever it does, and waits for it. It may be called again, and from any goroutine.
func (p *Process) Close() {
	p.closing.Do(func() {
		_ = p.conn.Close()       // it ends by itself then,
		_ = p.cmd.Process.Kill() // and if not, so
		_ = p.cmd.Wait()         // how does not matter: what failed has been answered
		<-p.listened
	})
}

func (p *Process) listen() {
	defer close(p.listened)
	var err error
	for {
		var r Reply
		if _, err = next(p.conn, &r); err != nil {
			break
		}
		p.mu.Lock()
		c := p.waiting[r.ID]
		delete(p.waiting, r.ID)
		p.mu.Unlock()
		if c != nil {
			c <- r
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = Failure{Broken, fmt.Sprintf("the fetcher ended: %v", err)}
	for id, c := range p.waiting {
		c <- Reply{ID: id, Cause: Broken, Text: p.ended.Error()}
	}
	p.waiting = nil
}

// ask sends a request; the channel gets its reply.
func (p *Process) ask(q Request, pipe *os.File) (<-chan Reply, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended != nil {
		return nil, p.ended
	}
	p.last++
	q.ID = p.last
	c := make(chan Reply, 1) // the listener never waits
	if err := send(p.conn, q, pipe); err != nil {
		return nil, Failure{Broken, fmt.Sprintf("ask the fetcher: %v", err)}
	}
	p.waiting[q.ID] = c
	return c, nil
}

// Resolve returns what the image's name stands for now.
func (p *Process) Resolve(ctx context.Context) (name string, found Blob, err error) {
	c, err := p.ask(Request{}, nil)
	if err != nil {
		return "", Blob{}, err
	}
	select {
	case <-ctx.Done():
		return "", Blob{}, context.Cause(ctx)
	case r := <-c:
		return r.Name, r.Found, r.failure()
	}
}

func (r Reply) failure() error {
	if r.Cause == "" {
		return nil
	}
	return Failure{r.Cause, r.Text}
}

// Open returns the bytes of a blob from an offset on. Reading ends with io.EOF or with why there are no more.
func (p *Process) Open(b Blob, offset int64) (io.ReadCloser, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close() // the fetcher has it
	c, err := p.ask(Request{Blob: &b, Offset: offset}, w)
	if err != nil {
		_ = r.Close() // nobody writes
		return nil, err
	}
	return &stream{File: r, reply: c}, nil
}

// stream is a pipe whose end is explained by a reply.
type stream struct {
	*os.File
	reply <-chan Reply
	end   error
}

// Read reads from the pipe; at its end it waits for the reply.
func (s *stream) Read(buf []byte) (int, error) {
	if s.end != nil {
		return 0, s.end
	}
	n, err := s.File.Read(buf)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if s.end = (<-s.reply).failure(); s.end == nil {
		s.end = io.EOF
	}
	return 0, s.end
}
