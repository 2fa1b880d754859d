package button

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// fixedEvent is the file of ACPI's fixed power button (Linux, Documentation/ABI/testing/sysfs-firmware-acpi). Its first
// word counts the presses since the driver was loaded. The driver clears the press that switched the device on. A press
// before the driver is loaded is lost, so boards load the driver ("button") in stage 1.
const fixedEvent = "firmware/acpi/interrupts/ff_pwr_btn"

// early reports whether the button was pressed after its driver was loaded. A press of a button that ACPI does not
// count (a GPIO) is lost until its device is open, unless the button is still held then.
func early(sys string) bool {
	text, err := os.ReadFile(filepath.Join(sys, fixedEvent))
	return err == nil && counted(string(text)) > 0
}

func counted(text string) int {
	word, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	count, err := strconv.Atoi(word)
	if err != nil {
		return 0
	}
	return count
}
