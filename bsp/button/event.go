package button

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Numbers of linux/input-event-codes.h.
const (
	typeSync = 0   // EV_SYN
	typeKey  = 1   // EV_KEY
	keyPower = 116 // KEY_POWER
	down     = 1   // value of a key event: 0 is up, 2 is repeated by holding it
)

// struct input_event is the time, two longs; then type and code of 16 bits each and a value of 32.
const (
	wordBits  = strconv.IntSize // Go's int is as long as the kernel's long, everywhere
	timeSize  = 2 * wordBits / 8
	eventSize = timeSize + 8
)

// holds reports whether bit is set in a bitmap of sysfs: hexadecimal words of the kernel's long, the lowest last,
// without leading zero words.
func holds(bitmap string, bit int) (bool, error) {
	words := strings.Fields(bitmap)
	if len(words) == 0 {
		return false, errors.New("parse key bitmap: it is empty")
	}
	has := false
	for i, text := range words {
		word, err := strconv.ParseUint(text, 16, wordBits)
		if err != nil {
			return false, fmt.Errorf("parse key bitmap: word %.20q", text)
		}
		if len(words)-1-i == bit/wordBits {
			has = word>>(bit%wordBits)&1 == 1
		}
	}
	return has, nil
}

// presses counts how often the power button goes down in the events of an input device. An incomplete event at the end
// does not count.
func presses(events []byte) int {
	count := 0
	for ; len(events) >= eventSize; events = events[eventSize:] {
		e := events[timeSize:eventSize]
		order := binary.NativeEndian
		if order.Uint16(e) == typeKey && order.Uint16(e[2:]) == keyPower && order.Uint32(e[4:]) == down {
			count++
		}
	}
	return count
}
