package sharing

import "resinos/net/netstate"

// Follow takes the shared links from what netd has configured. It does not block.
func (r *Router) Follow(s netstate.State) {
	var links []Link
	for _, l := range s.Links {
		if l.Shared.IsValid() || l.Shared6.IsValid() {
			links = append(links,
				Link{Name: l.Name, Index: l.Index, Hardware: l.Hardware, Own: l.Shared, Six: l.Shared6,
					Delegated: l.Delegated})
		}
	}
	r.Set(links)
}
