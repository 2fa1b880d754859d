package sshroot

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// openTerminal opens a pty as a "pty-req" describes it (RFC 4254, 6.2).
func openTerminal(payload []byte) (*terminal, error) {
	var p struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	if err := ssh.Unmarshal(payload, &p); err != nil {
		return nil, fmt.Errorf("read terminal request: %w", err)
	}
	master, slave, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	t := &terminal{master: master, slave: slave, kind: "dumb"}
	if p.Term != "" && len(p.Term) < 64 && strings.IndexFunc(p.Term, notInTerm) < 0 {
		t.kind = p.Term
	}
	size := pty.Winsize{Cols: uint16(min(p.Columns, most)), Rows: uint16(min(p.Rows, most)),
		X: uint16(min(p.Width, most)), Y: uint16(min(p.Height, most))}
	_ = pty.Setsize(master, &size) // a terminal of no size still works
	if err := setModes(int(slave.Fd()), []byte(p.Modes)); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func notInTerm(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._+", r))
}

// most is the largest size that the kernel accepts.
const most = 0xffff

// terminal is the pty of a session.
type terminal struct {
	master, slave *os.File
	kind          string // TERM
}

func (t *terminal) close() {
	if t != nil {
		t.master.Close() // closed twice is closed
		t.slave.Close()  // as above
	}
}

// flagModes are the terminal modes of RFC 4254, 8, that switch a bit. The other numbers there, and the speeds, have no
// effect on a pty.
var flagModes = [...]struct {
	mode byte
	word int // 0: c_iflag, 1: c_oflag, 2: c_lflag
	bit  uint32
}{
	{30, 0, unix.IGNPAR}, {31, 0, unix.PARMRK}, {32, 0, unix.INPCK}, {33, 0, unix.ISTRIP}, {34, 0, unix.INLCR},
	{35, 0, unix.IGNCR}, {36, 0, unix.ICRNL}, {38, 0, unix.IXON}, {39, 0, unix.IXANY}, {40, 0, unix.IXOFF},
	{41, 0, unix.IMAXBEL}, {42, 0, unix.IUTF8},
	{70, 1, unix.OPOST}, {72, 1, unix.ONLCR}, {73, 1, unix.OCRNL}, {74, 1, unix.ONOCR}, {75, 1, unix.ONLRET},
	{50, 2, unix.ISIG}, {51, 2, unix.ICANON}, {53, 2, unix.ECHO}, {54, 2, unix.ECHOE}, {55, 2, unix.ECHOK},
	{56, 2, unix.ECHONL}, {57, 2, unix.NOFLSH}, {58, 2, unix.TOSTOP}, {59, 2, unix.IEXTEN}, {60, 2, unix.ECHOCTL},
	{61, 2, unix.ECHOKE},
}

// charModes are the modes that set a control character.
var charModes = [...]struct {
	mode byte
	at   int // index in c_cc
}{
	{1, unix.VINTR}, {2, unix.VQUIT}, {3, unix.VERASE}, {4, unix.VKILL}, {5, unix.VEOF}, {6, unix.VEOL},
	{7, unix.VEOL2},
	{8, unix.VSTART}, {9, unix.VSTOP}, {10, unix.VSUSP}, {12, unix.VREPRINT}, {13, unix.VWERASE}, {14, unix.VLNEXT},
	{18, unix.VDISCARD},
}

// setModes applies the client's terminal modes: pairs of a byte and a 32-bit value, up to a zero byte. An incomplete
// list is applied as far as it goes.
func setModes(fd int, modes []byte) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("read terminal modes: %w", err)
	}
	for ; len(modes) >= 5 && modes[0] != 0; modes = modes[5:] {
		setMode(t, modes[0], binary.BigEndian.Uint32(modes[1:]))
	}
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return fmt.Errorf("set terminal modes: %w", err)
	}
	return nil
}

func setMode(t *unix.Termios, mode byte, value uint32) {
	words := [...]*uint32{&t.Iflag, &t.Oflag, &t.Lflag}
	for _, f := range flagModes {
		if f.mode == mode && value != 0 {
			*words[f.word] |= f.bit
		} else if f.mode == mode {
			*words[f.word] &^= f.bit
		}
	}
	for _, c := range charModes {
		if c.mode == mode {
			if value == 255 {
				value = 0 // _POSIX_VDISABLE is 255 on the wire
			}
			t.Cc[c.at] = uint8(value)
		}
	}
}
