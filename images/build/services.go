package build

// services are the service files that an image of the variant carries, by file name.
func (b *builder) services() (map[string][]byte, error) { return nil, nil }
