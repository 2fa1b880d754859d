package app

// MountType is where what is mounted comes from.
type MountType string

// The types of mounts.
const (
	Volume MountType = "volume" // a named volume of the app; without a source one that nobody else knows
	Bind   MountType = "bind"   // a file or a directory of the device
	Tmpfs  MountType = "tmpfs"  // memory
)

// Mount is one file system or file that a container sees.
type Mount struct {
	Type MountType
	// Source is the name of the volume without the app's, or an absolute path on the device.
	Source string `json:",omitempty"`
	// Owner is the service that a volume without a name belongs to, if it is another one (volumes_from).
	Owner       string `json:",omitempty"`
	Target      string
	ReadOnly    bool   `json:",omitempty"`
	NoCopy      bool   `json:",omitempty"` // a new volume does not get what the container image has there
	Subpath     string `json:",omitempty"` // of a volume
	Create      bool   `json:",omitempty"` // a missing source of a bind becomes a directory
	Propagation string `json:",omitempty"` // of a bind: rprivate, rslave, rshared
	Size        int64  `json:",omitempty"` // of a tmpfs
	Mode        uint32 `json:",omitempty"` // of a tmpfs
	Options     string `json:",omitempty"` // of a tmpfs in the short form: size=64m,uid=1000
}

// File is a file of the compose project that a container sees: a config or a secret.
type File struct {
	Target  string
	Source  string `json:",omitempty"` // a path on the device; empty: Content
	Content string `json:",omitempty"`
	Secret  bool   `json:",omitempty"`
	UID     uint32 `json:",omitempty"`
	GID     uint32 `json:",omitempty"`
	Mode    uint32 `json:",omitempty"` // 0: the file's own, or 0444 for Content
}

// Device is a device node of the device that a container may use.
type Device struct {
	Source, Target string
	Permissions    string // of rwm
}

// Ulimit is a soft and a hard limit of setrlimit(2); -1 is none.
type Ulimit struct {
	Name       string // nofile
	Soft, Hard int64
}

// Resources are what a container may use of the device. Zero: the default.
type Resources struct {
	Memory            int64   `json:",omitempty"` // bytes
	MemoryReservation int64   `json:",omitempty"`
	MemorySwap        int64   `json:",omitempty"` // memory and swap together, as docker counts; -1: no bound
	CPUs              float64 `json:",omitempty"`
	CPUShares         int64   `json:",omitempty"`
	CPUQuota          int64   `json:",omitempty"` // microseconds in a period
	CPUPeriod         int64   `json:",omitempty"`
	CPUSet            string  `json:",omitempty"`
	Pids              int64   `json:",omitempty"` // -1: no bound
	BlkioWeight       uint16  `json:",omitempty"`
	ShmSize           int64   `json:",omitempty"`
}
