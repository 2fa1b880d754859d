package wifi

import (
	"strconv"
	"strings"

	"resinos/net/profile"
)

// channels5 are the channels of 5 GHz.
var channels5 = [...]int{36, 40, 44, 48, 52, 56, 60, 64, 100, 104, 108, 112, 116, 120, 124, 128, 132, 136, 140, 144,
	149, 153, 157, 161, 165}

// frequency returns the frequency of a channel in MHz.
func frequency(band string, channel int) int {
	switch {
	case band == "bg" && channel == 14:
		return 2484
	case band == "bg":
		return 2407 + 5*channel
	case band == "6GHz":
		return 5950 + 5*channel
	case channel >= 183:
		return 4000 + 5*channel
	}
	return 5000 + 5*channel
}

// frequencies puts where the network may be looked for, or opened.
func (n *plan) frequencies(w *profile.WiFi) {
	band, channel := w.Band, int(w.Channel)
	if n.Mode != "infrastructure" {
		if band == "" {
			band = "bg"
		}
		if channel == 0 {
			channel = map[string]int{"bg": 1, "a": 36, "6GHz": 5}[band]
		}
		n.put("frequency", strconv.Itoa(frequency(band, channel)))
		return
	}
	var list []string
	switch {
	case channel != 0:
		list = append(list, strconv.Itoa(frequency(band, channel)))
	case band == "bg":
		for c := 1; c <= 14; c++ {
			list = append(list, strconv.Itoa(frequency(band, c)))
		}
	case band == "a":
		for _, c := range channels5 {
			list = append(list, strconv.Itoa(frequency(band, c)))
		}
	case band == "6GHz":
		for c := 1; c <= 233; c += 4 {
			list = append(list, strconv.Itoa(frequency(band, c)))
		}
	}
	if list != nil {
		n.put("freq_list", strings.Join(list, " "))
	}
}
