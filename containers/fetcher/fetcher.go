// Package fetcher owns the process that speaks with one registry for one pull: names, TLS, HTTP, logins, mirrors. It
// passes bytes on without checking them: the process that asked for them checks digests. It never speaks with the
// engine. Before it first answers a stranger it gives up its rights (confined.go); from then on it opens none of the
// owner's files. Read Run first, then Request.
//
//	manager ── Request, end of a pipe ──→ fetcher ── HTTPS ──→ registry
//	   ↑ ←────── Reply ──────────────────────┘ │
//	   └─────────── bytes of a blob, in the pipe
package fetcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"

	"resinos/services/registries"
)

// Config is all that differs between the device and a test.
type Config struct {
	// Image is the whole reference of the image; the fetcher asks for nothing else.
	Image string
	// Settings are the directories of the owner's settings, the first that has a file counts: DIRECTORY/config.json as
	// docker writes it, DIRECTORY/HOST/hosts.toml as containerd reads it.
	Settings []string
	// Conn is the connection to the process that asks, from Pair.
	Conn *net.UnixConn
	// Confine gives up what the fetcher does not need, after the settings are read and before a name is looked up.
	Confine func() error
}

// Bounds on what a registry can make us do.
const (
	// stall is how long a registry may send less than stallBytes. A device at the end of a radio link gets more.
	stall      = time.Minute
	stallBytes = 4 << 10
	// resolveTime bounds the whole answer to a name: a handful of small requests.
	resolveTime = 2 * time.Minute
)

// Run answers requests until the asking process closes the connection, which cuts what is under way. A fault in the
// owner's settings is the answer to each request.
func Run(ctx context.Context, c Config) error {
	logrus.SetOutput(io.Discard) // the library tells of each request; what fails is answered
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	r, fault := open(ctx, c)
	if err := c.Confine(); err != nil {
		return fmt.Errorf("confine fetcher: %w", err)
	}
	s := &session{conn: c.Conn, registry: r}
	for {
		q, pipe, err := receive(c.Conn)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		all.Go(func() {
			defer closePipe(pipe)
			p := Reply{ID: q.ID}
			err := fault
			if err == nil {
				err = s.answer(ctx, q, pipe, &p)
			}
			p.Cause, p.Text = causeOf(err), s.text(err)
			s.reply(p)
		})
	}
}

// registry is what speaks with the registry of one image.
type registry struct {
	image   string
	remote  remotes.Resolver
	secrets []string // never to be seen in what we say
}

// open reads the settings.
func open(ctx context.Context, c Config) (*registry, error) {
	secrets, err := registries.ReadLogins(c.Settings, domainOf)
	if err != nil {
		return &registry{}, err
	}
	r := &registry{image: c.Image, secrets: secrets.Secrets()}
	hosts, err := hostsOf(ctx, c.Image, c.Settings, secrets)
	if err != nil {
		return r, err
	}
	r.remote = docker.NewResolver(docker.ResolverOptions{Hosts: hosts})
	return r, nil
}

// session answers requests, several at a time.
type session struct {
	registry *registry
	sending  sync.Mutex // one message at a time on conn
	conn     *net.UnixConn
}

func (s *session) answer(ctx context.Context, q Request, pipe *os.File, p *Reply) error {
	if q.Blob == nil {
		ctx, cancel := context.WithTimeout(ctx, resolveTime)
		defer cancel()
		name, desc, err := s.registry.remote.Resolve(ctx, s.registry.image)
		p.Name, p.Found = name, Blob{desc.MediaType, desc.Digest, desc.Size}
		return err
	}
	if pipe == nil {
		return errors.New("no pipe came with the request")
	}
	return s.fetch(ctx, *q.Blob, q.Offset, pipe)
}

// fetch writes a blob from an offset on into pipe. It ends when the registry stalls, and when nobody reads any more.
func (s *session) fetch(ctx context.Context, b Blob, offset int64, pipe io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(stall, func() { cancel(errStalled) })
	defer watch.Stop()
	fetcher, err := s.registry.remote.Fetcher(ctx, s.registry.image)
	if err != nil {
		return err
	}
	body, err := fetcher.Fetch(ctx, v1.Descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size})
	if err == nil {
		defer body.Close() // only read
		if seeker, ok := body.(io.Seeker); ok && offset > 0 {
			_, err = seeker.Seek(offset, io.SeekStart)
		}
	}
	if err == nil {
		err = copyWatched(pipe, body, watch)
	}
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

// copyWatched copies. The watch runs while the registry has to send, not while the reader takes its time.
func copyWatched(to io.Writer, from io.Reader, watch *time.Timer) error {
	buf, since := make([]byte, 64<<10), 0
	for {
		n, err := from.Read(buf)
		if since += n; since >= stallBytes {
			watch.Stop()
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return fmt.Errorf("hand bytes on: %w", err)
			}
		}
		if since >= stallBytes {
			watch.Reset(stall)
			since = 0
		}
		if err == io.EOF { // a connection that ended too early wraps it
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *session) reply(p Reply) {
	s.sending.Lock()
	defer s.sending.Unlock()
	_ = send(s.conn, p, nil) // the asking process is gone, and the next receive ends us
}

func closePipe(f *os.File) {
	if f != nil {
		_ = f.Close() // whoever reads it learns from the reply how it ended
	}
}
