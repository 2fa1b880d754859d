package sshmsg

// The first bytes of the messages. ssh.Marshal takes them from the tags below.
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
	// Refused answers each message that asks for what cannot be, or must not.
	Refused struct {
		Why string `sshtype:"1"`
	}
	// Done answers that it is done. What comes with it is a matter of the question.
	Done struct {
		Nothing bool `sshtype:"8"`
	}

	// Begin asks how to begin.
	Begin struct {
		Nothing bool `sshtype:"2"`
	}
	// Begun answers it.
	Begun struct {
		HostKey []byte `sshtype:"3"` // the public half
		NoKey   bool   // whoever asks logs in without a key
		Banner  string // for people: why not
	}
	// Sign asks for a signature of the host key; what is signed is the hash of a key exchange.
	Sign struct {
		Hash []byte `sshtype:"4"`
	}
	// Signed answers it.
	Signed struct {
		Format string `sshtype:"5"`
		Blob   []byte
	}
	// Offer asks whether a key could log in.
	Offer struct {
		User string `sshtype:"6"`
		Key  []byte
	}
	// Enter asks to be logged in: the user has shown that it has the key, or needs none. With Done comes a socket to root's process.
	Enter struct {
		User      string `sshtype:"7"`
		Key       []byte // empty: without
		Signature []byte // the user's, as ssh writes it; empty: the library did not hand it out
		Client    string // how the client calls itself
	}

	// Talk brings root a socket for one matter.
	Talk struct {
		Nothing bool `sshtype:"9"`
	}
	// Dial asks for a TCP connection. It comes with Done.
	Dial struct {
		Host string `sshtype:"10"`
		Port uint32
	}
	// Listen asks for a port on the loopback addresses; 0 is any.
	Listen struct {
		Port uint32 `sshtype:"11"`
	}
	// Listening answers it, and brings one socket for each address.
	Listening struct {
		Port uint32 `sshtype:"12"`
	}
	// Terminal asks for a terminal as the client's "pty-req" describes it. Its master comes with Done.
	Terminal struct {
		Request []byte `sshtype:"13"`
	}
	// Agent asks for a socket that sessions find their agent at. It comes with Done, listening.
	Agent struct {
		Nothing bool `sshtype:"14"`
	}
	// Start starts a command, or a shell if there is none. With Done come input, output and error output, unless there is a terminal.
	Start struct {
		Command string `sshtype:"15"`
		Environ string // each variable ends with a zero byte
	}
	// Files starts the file server. With Done comes the stream that it serves.
	Files struct {
		Nothing bool `sshtype:"16"`
	}
	// Signal sends a signal to what was started. It has no answer.
	Signal struct {
		Name string `sshtype:"17"`
	}
	// Ended says how what was started has ended. It is the last message.
	Ended struct {
		Status uint32 `sshtype:"18"`
		Signal string // as ssh names it; empty: it ended by itself
		Core   bool
	}
)
