package netd

import (
	"context"
	"encoding/json"
	"time"

	"resinos/net/link"
)

// moved gives links what the profiles of the networks say that their radios have joined.
func (d *daemon) moved(at time.Duration) {
	d.survey(at)
	d.applyRules()
	d.writeResolv()
}

func (d *daemon) driveRadios() {
	d.radios.Drive(d.wish.country, d.wish.openScan)
	d.modems.Drive()
}

// scan answers which access points are in range.
func (d *daemon) scan(ctx context.Context, _ json.RawMessage) (any, error) {
	var names []string
	err := d.within(ctx, func(time.Duration) {
		for _, s := range d.status().Links {
			if s.Kind == string(link.Wifi) {
				names = append(names, s.Name)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return d.radios.Scan(ctx, names)
}
