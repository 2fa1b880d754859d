// Observer prints what package hardening observes of the device that it runs on, as JSON. It belongs to tests, which
// copy it to a device: no image has it.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"resinos/images/hardening"
)

func main() {
	table, err := hardening.Load()
	if err == nil {
		var facts hardening.Facts
		if facts, err = hardening.Observe(table); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(facts)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "observer:", err)
		os.Exit(1)
	}
}
