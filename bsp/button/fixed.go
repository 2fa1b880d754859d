package button

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// fixedEvent is where the kernel tells of ACPI's fixed power button (Linux, Documentation/ABI/testing/sysfs-firmware-acpi): the first word is how
// often it was pressed since its driver came. That forgets the press which switched the device on; before it a press is lost in the hardware, so
// boards load the driver ("button") in stage 1.
const fixedEvent = "firmware/acpi/interrupts/ff_pwr_btn"

// early reports whether the button was pressed since its driver came. A press of a button that ACPI does not count (a GPIO) is lost until its
// device is open, unless the button is still held then.
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
