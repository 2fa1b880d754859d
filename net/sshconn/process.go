package sshconn

import (
	"io"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"resinos/net/sshmsg"
)

// process is what runs in a session: the files are this side's ends, everything else belongs to root's process.
type process struct {
	talk   *sshmsg.Conn // reports how it ended
	stdin  io.WriteCloser
	stdout io.ReadCloser // with a terminal or the file server, the same as stdin
	stderr io.ReadCloser // nil with these
	tty    bool          // it has a terminal
	fault  string        // why no process could be started
	gone   chan struct{} // closed by hangUp
}

// drainTime is how long we keep reading from a terminal whose shell has ended: the kernel hangs it up, so at most a few
// kilobytes are left.
const drainTime = 2 * time.Second

// failedProcess stands for a process that could not be started; it ends like a shell that finds no command.
func failedProcess(why string) *process { return &process{fault: why, gone: make(chan struct{})} }

// serve copies bytes between the channel and the process until the process has ended and all of its output has been
// sent. As with other servers, a process in the background keeps the session open as long as it keeps its output.
func (p *process) serve(channel ssh.Channel) sshmsg.Ended {
	if p.fault != "" {
		io.WriteString(channel.Stderr(), p.fault) // an error means that the client is gone
		return sshmsg.Ended{Status: 127}
	}
	var output sync.WaitGroup
	output.Go(func() { io.Copy(channel, p.stdout) })
	if p.stderr != nil {
		output.Go(func() { io.Copy(channel.Stderr(), p.stderr) })
	}
	drained := make(chan struct{})
	go func() { output.Wait(); close(drained) }()
	var end sshmsg.Ended
	if _, err := p.talk.Answer(&end, 0); err != nil {
		end = sshmsg.Ended{Status: 255} // hung up, or root's process was killed: then the connection ends
	}
	p.drain(drained)
	p.close()
	<-drained
	return end
}

// drain waits for the rest of the output, but no longer than drainTime.
func (p *process) drain(drained <-chan struct{}) {
	var late <-chan time.Time
	if p.tty {
		late = time.After(drainTime)
	}
	select {
	case <-drained:
	case <-p.gone:
	case <-late:
	}
}

// feed copies the client's bytes to the process until the channel ends. The end of a pipe or of the file server's
// stream ends the input; a terminal has no end, so the client sends its end-of-file character.
func (p *process) feed(channel ssh.Channel) {
	if p.stdin == nil {
		return
	}
	io.Copy(p.stdin, channel) // it also ends when the process no longer reads
	if stream, ok := p.stdin.(halfConn); ok {
		stream.CloseWrite() // it may be closed
	} else if !p.tty {
		p.stdin.Close() // nothing is buffered in it
	}
	io.Copy(io.Discard, channel)
}

func (p *process) close() {
	for _, f := range []io.Closer{p.stdin, p.stdout, p.stderr} {
		if f != nil {
			f.Close() // two of them may be one; nothing is buffered
		}
	}
}

// hangUp closes our side when the client is gone: the terminal is closed, which sends SIGHUP to its foreground
// processes. Root's process does the rest, because its socket is closed too.
func (p *process) hangUp() {
	if p == nil {
		return
	}
	close(p.gone)
	p.close()
}
