// Package modemtest is a modem for tests: it answers AT commands like a modem in a GSM network, and connects a call to
// a second line, on which a real pppd acts as the network. Read first: Modem.
package modemtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// Modem is one modem with its SIM. The zero value has no PIN.
type Modem struct {
	PIN string // of the SIM; empty: it is not locked

	mu       sync.Mutex
	open     bool // the PIN has been given
	wrong    int  // PINs in a row
	commands []string
	apn      string
	calls    int
}

// allowed is how many wrong PINs a SIM takes.
const allowed = 3

// Commands returns all commands so far.
func (m *Modem) Commands() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.commands...)
}

// PINs returns how many times a PIN has been given, right or wrong.
func (m *Modem) PINs() (count int) {
	for _, c := range m.Commands() {
		if strings.HasPrefix(c, `+CPIN="`) {
			count++
		}
	}
	return count
}

// Off switches the modem off: the SIM wants its PIN again.
func (m *Modem) Off() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open = false
}

// Serve answers on line, and bridges calls to network, until ctx ends or a side is closed. It closes both.
func (m *Modem) Serve(ctx context.Context, line, network io.ReadWriteCloser) error {
	stop := context.AfterFunc(ctx, func() { _ = errors.Join(line.Close(), network.Close()) })
	defer stop()
	c := &call{line: line, network: network}
	done := make(chan error, 1)
	go func() { done <- c.fromNetwork() }()
	c.out = make(chan []byte, 64)
	go func() { // ends when out is closed below
		for b := range c.out {
			_, _ = network.Write(b) // fromNetwork notices that it is closed
		}
	}()
	err := m.answer(c)
	close(c.out)
	_ = errors.Join(line.Close(), network.Close()) // ends the other direction
	return errors.Join(err, <-done)
}

// call is the state of the line: it takes commands, or data.
type call struct {
	line, network io.ReadWriteCloser
	mu            sync.Mutex
	data          bool
	out           chan []byte // to the network: while nobody reads there, data is lost
	frame         frame
}

// frame is where in the data of a call the last byte was. A modem hangs up when the device lets go of the line DTR,
// which QEMU does not pass on: here, a command between two frames of PPP does the same. None begins as a command does.
type frame int

const (
	outside frame = iota // behind the end of a frame, or at the beginning of a call
	within
	command1 // behind the first byte of a command
)

// next returns where the byte b leads, and whether a command has begun with it and the byte before.
func (f frame) next(b byte) (to frame, command bool) {
	switch {
	case b == 0x7e:
		return outside, false
	case f == outside && b == 'A':
		return command1, false
	case f == command1 && b == 'T':
		return outside, true
	}
	return within, false
}

// commandIn returns where in data a command begins, behind its first two bytes; -1: nowhere.
func (c *call) commandIn(data []byte) int {
	for i, b := range data {
		var command bool
		if c.frame, command = c.frame.next(b); command {
			return i + 1
		}
	}
	return -1
}

func (c *call) set(data bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.data = data
}

func (c *call) connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.data
}

// terminated is what the last frame of a PPP connection begins with: Terminate-Ack of LCP.
var terminated = []byte{0xc0, 0x21, 0x7d, 0x26}

// fromNetwork hands on what the network sends, while there is a call.
func (c *call) fromNetwork() error {
	buf := make([]byte, 4096)
	for {
		n, err := c.network.Read(buf)
		if err != nil {
			return err
		}
		if !c.connected() {
			continue
		}
		if _, err := c.line.Write(buf[:n]); err != nil {
			return err
		}
		if bytes.Contains(buf[:n], terminated) {
			c.set(false)
			if _, err := io.WriteString(c.line, "\r\nNO CARRIER\r\n"); err != nil {
				return err
			}
		}
	}
}

// toNetwork hands on what the device sends within a call, and ends the call behind its last frame.
func (c *call) toNetwork(data []byte) error {
	select {
	case c.out <- bytes.Clone(data):
	default:
	}
	if !bytes.Contains(data, terminated) {
		return nil
	}
	c.set(false)
	_, err := io.WriteString(c.line, "\r\nNO CARRIER\r\n")
	return err
}

// answer reads what the device sends: commands, or data for the network.
func (m *Modem) answer(c *call) error {
	buf, pending := make([]byte, 4096), []byte(nil)
	for {
		n, err := c.line.Read(buf)
		if err != nil {
			return err
		}
		got := buf[:n]
		if c.connected() {
			i := c.commandIn(got)
			if i < 0 {
				if err := c.toNetwork(got); err != nil {
					return err
				}
				continue
			}
			c.set(false)
			pending, got = append(pending[:0], "AT"...), got[i:]
		}
		pending = append(pending, got...)
		for {
			i := bytes.IndexAny(pending, "\r\n")
			if i < 0 {
				break
			}
			command := strings.TrimSpace(string(pending[:i]))
			pending = pending[i+1:]
			if at := strings.LastIndex(command, "AT"); at >= 0 {
				if err := m.command(c, command[at+2:]); err != nil {
					return err
				}
			}
		}
	}
}

// command answers one line of commands.
func (m *Modem) command(c *call, line string) error {
	m.mu.Lock()
	m.commands = append(m.commands, line)
	m.mu.Unlock()
	if strings.HasPrefix(line, "D") {
		m.mu.Lock()
		m.calls++
		m.mu.Unlock()
		c.frame = outside
		c.set(true)
		_, err := io.WriteString(c.line, "\r\nCONNECT 115200\r\n")
		return err
	}
	var out strings.Builder
	for _, one := range strings.Split(line, ";") {
		text, failed := m.one(one)
		if text != "" {
			fmt.Fprintf(&out, "\r\n%s\r\n", text)
		}
		if failed {
			_, err := io.WriteString(c.line, out.String())
			return err
		}
	}
	out.WriteString("\r\nOK\r\n")
	_, err := io.WriteString(c.line, out.String())
	return err
}

// answers are those that never change. A command that is not here is not known.
var answers = map[string]string{
	"": "", "Z": "", "E0": "", "E1": "", "V1": "", "X4": "", "&C1": "", "&F": "", "+CMEE=1": "", "+CMEE=0": "", "H": "",
	"+CGMI": "resinOS", "+CGMM": "Emulated", "+CGMR": "1.0", "+CGSN": "490154203237518", "+GSN": "490154203237518",
	"+GMI": "resinOS", "+GMM": "Emulated", "+GMR": "1.0", "+GCAP": "+GCAP: +CGSM,+DS,+ES", "I": "resinOS Emulated",
	"+CFUN?": "+CFUN: 1", "+CFUN=1": "", "+CFUN=?": "+CFUN: (0,1,4),(0,1)", "+CFUN=4": "",
	"+CSCS=?": `+CSCS: ("IRA","GSM")`, "+CSCS=\"IRA\"": "", "+CSCS?": `+CSCS: "IRA"`, "+CSCS=\"GSM\"": "",
	"+WS46=?": "+WS46: (12,22,25)", "+WS46?": "+WS46: 25",
	"+CREG=2": "", "+CGREG=2": "", "+CREG=1": "", "+CGREG=1": "", "+CREG=0": "", "+CGREG=0": "",
	"+COPS=3,0": "", "+COPS=3,2": "", "+COPS=0": "", "+COPS=0,,": "",
	"+CGATT?": "+CGATT: 1", "+CGATT=1": "", "+CGATT=0": "",
	"+CSQ": "+CSQ: 20,99", "+CGDCONT=?": `+CGDCONT: (1-3),"IP",,,(0),(0)`, "+CGACT?": "+CGACT: 1,0",
	"+CLCK=?": `+CLCK: ("SC")`, "+CLCK=\"SC\",2": "+CLCK: 1",
}

// one answers one command, and says whether it has failed.
func (m *Modem) one(command string) (text string, failed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	locked := m.PIN != "" && !m.open
	switch {
	case strings.HasPrefix(command, `+CPIN="`):
		return m.unlock(strings.Trim(strings.TrimPrefix(command, "+CPIN="), `"`))
	case command == "+CPIN?" && m.wrong >= allowed:
		return "+CPIN: SIM PUK", false
	case command == "+CPIN?" && locked:
		return "+CPIN: SIM PIN", false
	case command == "+CPIN?":
		return "+CPIN: READY", false
	case command == "+CPINR" || command == "+CPINR=\"SIM PIN\"":
		return fmt.Sprintf("+CPINR: SIM PIN,%d,%d", allowed-m.wrong, allowed), false
	case strings.HasPrefix(command, `+CSIM=10,"002000`): // how many tries the PINs have
		return fmt.Sprintf(`+CSIM: 4,"63C%d"`, allowed-m.wrong), false
	case strings.HasPrefix(command, `+CSIM=10,"002C00`): // and the PUKs
		return `+CSIM: 4,"63CA"`, false
	case strings.HasPrefix(command, "+CRSM=176,12258"): // the number of the SIM, readable at all times
		return `+CRSM: 144,0,"984902010000000000F0"`, false
	}
	if text, known := answers[command]; known {
		return text, false
	}
	if locked {
		return "+CME ERROR: 11", true
	}
	return m.unlocked(command)
}

// unlocked answers what a modem answers only with the SIM. The caller holds the lock.
func (m *Modem) unlocked(command string) (text string, failed bool) {
	switch {
	case command == "+CIMI":
		return "262019876543210", false
	case command == "+CREG?":
		return `+CREG: 2,1,"00C8","0001E240",7`, false
	case command == "+CGREG?":
		return `+CGREG: 2,1,"00C8","0001E240",7`, false
	case command == "+COPS?":
		if len(m.commands) > 0 && strings.Contains(m.commands[len(m.commands)-1], "=3,2") {
			return `+COPS: 0,2,"26201",7`, false
		}
		return `+COPS: 0,0,"Emulated Net",7`, false
	case command == "+CGDCONT?":
		if m.apn == "" {
			return "", false
		}
		return fmt.Sprintf(`+CGDCONT: 1,"IP","%s","",0,0`, m.apn), false
	case strings.HasPrefix(command, "+CGDCONT="):
		if fields := strings.Split(command, ","); len(fields) > 2 {
			m.apn = strings.Trim(fields[2], `"`)
		}
		return "", false
	case strings.HasPrefix(command, "+CGACT="), strings.HasPrefix(command, "+CGAUTH="):
		return "", false
	}
	return "+CME ERROR: 4", true
}

// unlock takes a PIN. The caller holds the lock.
func (m *Modem) unlock(pin string) (text string, failed bool) {
	if pin != m.PIN || m.wrong >= allowed {
		m.wrong++
		return "+CME ERROR: 16", true
	}
	m.open, m.wrong = true, 0
	return "", false
}

// APN returns the one that the device has asked for last.
func (m *Modem) APN() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.apn
}
