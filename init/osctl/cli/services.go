package cli

// Where service files are.
const (
	ShippedServices = "/usr/lib/resinos/services" // the image's
	OwnerServices   = "/etc/resinos/services"     // the owner's, which replace the others key by key
)

// ServiceDirs returns both in the order in which they are laid over each other.
func ServiceDirs() []string { return []string{ShippedServices, OwnerServices} }
