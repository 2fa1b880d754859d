// Package scp owns the device's side of the scp protocol, which "scp -O" and clients before OpenSSH 9 use: they start
// the program scp on the device, to send files (-f) or to receive them (-t). Newer clients use sftp (sshconn).
//
// It never opens a connection: its standard input and output are the client's connection. Read first: Run, then sink
// and source.
package scp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// options are the options that the client passes.
type options struct {
	toDevice   bool // -t: the device receives files
	fromDevice bool // -f: the device sends files
	recursive  bool // -r
	times      bool // -p: times and modes are preserved
	directory  bool // -d: the target must be a directory
	paths      []string
}

// parseOptions reads the arguments of the program. It ignores the flags for people (-v, -q).
func parseOptions(args []string) (o options, err error) {
	flags := map[rune]*bool{'t': &o.toDevice, 'f': &o.fromDevice, 'r': &o.recursive, 'p': &o.times, 'd': &o.directory,
		'v': new(bool), 'q': new(bool)}
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		word := args[0]
		if args = args[1:]; word == "--" {
			break
		}
		for _, r := range word[1:] {
			if flags[r] == nil {
				return o, fmt.Errorf("unknown flag -%c", r)
			}
			*flags[r] = true
		}
	}
	o.paths = args
	switch {
	case o.toDevice == o.fromDevice:
		return o, errors.New("this is the device's side of a copy: run scp on the other machine")
	case o.toDevice && len(args) != 1:
		return o, fmt.Errorf("%d targets: name one", len(args))
	case len(args) == 0:
		return o, errors.New("no files are named")
	}
	return o, nil
}

// Run is the program: args are those after its name. Where possible, the client has been informed of the error.
func Run(args []string, in io.Reader, out io.Writer) error {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	p := newPeer(in, out)
	if o.toDevice {
		err = (&sink{peer: p, options: o}).run(o.paths[0])
	} else {
		err = (&source{peer: p, options: o}).run()
	}
	return errors.Join(err, p.failed)
}

// maxLine limits a control line: a name of 255 bytes and its numbers, or a message.
const maxLine = 4 << 10

// peer is the client. Each side answers a message of the other with one byte: 0 means success, 1 an error and 2 a fatal
// error, both followed by a line of text.
type peer struct {
	in     *bufio.Reader
	out    *bufio.Writer
	failed error // the first error that did not end the copy
}

func newPeer(in io.Reader, out io.Writer) *peer {
	return &peer{in: bufio.NewReaderSize(in, maxLine), out: bufio.NewWriterSize(out, 32<<10)}
}

// complain informs the client of an error that affects one file.
func (p *peer) complain(err error) error {
	p.fail(err)
	text := strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, err.Error())
	_, fault := fmt.Fprintf(p.out, "\x01scp: %s\n", text)
	return errors.Join(fault, p.out.Flush())
}

func (p *peer) fail(err error) {
	if p.failed == nil {
		p.failed = err
	}
}

// good reports success to the client.
func (p *peer) good() error { return errors.Join(p.out.WriteByte(0), p.out.Flush()) }

// answer waits for the client's answer. The error ends the copy; ok is false if the client has refused this one file.
func (p *peer) answer() (ok bool, err error) {
	if err := p.out.Flush(); err != nil {
		return false, err
	}
	b, err := p.in.ReadByte()
	switch {
	case err != nil:
		return false, noEnd(err)
	case b == 0:
		return true, nil
	case b != 1 && b != 2:
		return false, fmt.Errorf("the client answers %q", b)
	}
	text, err := p.line()
	if err != nil {
		return false, err
	}
	err = fmt.Errorf("the client reports: %.200q", text)
	if b == 2 {
		return false, err
	}
	p.fail(err)
	return false, nil
}

// line reads the rest of a line.
func (p *peer) line() (string, error) {
	text, err := p.in.ReadSlice('\n')
	if err != nil {
		return "", noEnd(err) // bufio.ErrBufferFull if it is too long
	}
	return string(text[:len(text)-1]), nil
}

// noEnd returns io.ErrUnexpectedEOF instead of an end of input.
func noEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
