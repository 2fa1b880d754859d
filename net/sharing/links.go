package sharing

import "resinos/net/netstate"

// Follow takes the shared links from what netd has configured. It does not block.
func (r *Router) Follow(s netstate.State) {
	var links []Link
	for _, l := range s.Links {
		if l.Shared.IsValid() {
			links = append(links, Link{Name: l.Name, Index: l.Index, Hardware: l.Hardware, Own: l.Shared})
		}
	}
	r.Set(links)
}
