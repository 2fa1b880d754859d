package sshmsg

// The first bytes of the messages. ssh.Marshal reads them from the tags below.
const (
	KindRefused = iota + 1
	KindBegin
	KindBegun
	KindSign
	KindSigned
	KindOffer
	KindEnter
	KindDone
	KindTalk
	KindDial
	KindListen
	KindListening
	KindTerminal
	KindAgent
	KindStart
	KindFiles
	KindSignal
	KindEnded
)

type (
	// Refused answers a request that cannot or must not be carried out.
	Refused struct {
		Why string `sshtype:"1"`
	}
	// Done answers a request that was carried out. The descriptors with it depend on the request.
	Done struct {
		Nothing bool `sshtype:"8"`
	}

	// Begin asks for the parameters of the connection.
	Begin struct {
		Nothing bool `sshtype:"2"`
	}
	// Begun answers Begin.
	Begun struct {
		HostKey []byte `sshtype:"3"` // the public part
		NoKey   bool   // a login needs no key
		Banner  string // explains to people why a key is needed
	}
	// Sign asks for a signature with the host key over the hash of a key exchange.
	Sign struct {
		Hash []byte `sshtype:"4"`
	}
	// Signed answers Sign.
	Signed struct {
		Format string `sshtype:"5"`
		Blob   []byte
	}
	// Offer asks whether a key is accepted.
	Offer struct {
		User string `sshtype:"6"`
		Key  []byte
	}
	// Enter asks for the login: the user has proved that it has the key, or needs none. With Done comes a socket to
	// root's process.
	Enter struct {
		User      string `sshtype:"7"`
		Key       []byte // empty: without a key
		Signature []byte // the user's, as ssh encodes it; empty: the library did not give it out
		Client    string // the client's version string
	}

	// Talk passes root a socket for one conversation.
	Talk struct {
		Nothing bool `sshtype:"9"`
	}
	// Dial asks for a TCP connection, which comes with Done.
	Dial struct {
		Host string `sshtype:"10"`
		Port uint32
	}
	// Listen asks for a port on the loopback addresses; 0 is any.
	Listen struct {
		Port uint32 `sshtype:"11"`
	}
	// Listening answers Listen, with one socket for each address.
	Listening struct {
		Port uint32 `sshtype:"12"`
	}
	// Terminal asks for a terminal as the client's "pty-req" describes it. Its master comes with Done.
	Terminal struct {
		Request []byte `sshtype:"13"`
	}
	// Agent asks for a socket at which sessions find the client's agent. It comes with Done, listening.
	Agent struct {
		Nothing bool `sshtype:"14"`
	}
	// Start starts a command, or a shell if there is none. With Done come input, output and error output, unless there
	// is a terminal.
	Start struct {
		Command string `sshtype:"15"`
		Environ string // each variable ends with a zero byte
	}
	// Files starts the file server. Its stream comes with Done.
	Files struct {
		Nothing bool `sshtype:"16"`
	}
	// Signal sends a signal to what was started. There is no answer.
	Signal struct {
		Name string `sshtype:"17"`
	}
	// Ended reports how what was started has ended. It is the last message.
	Ended struct {
		Status uint32 `sshtype:"18"`
		Signal string // as ssh names it; empty: it ended by itself
		Core   bool
	}
)
