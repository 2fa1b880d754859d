package chunk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// packPause is what the packer waits after each frame, so that a process with one processor gets to its input.
const packPause = time.Millisecond

// Pack writes the packed form of the plain chunk from to the file to.
func Pack(ctx context.Context, from, to string, f *Framer) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(packFile(ctx, in, out, f), out.Close())
}

func packFile(ctx context.Context, in, out *os.File, f *Framer) error {
	st, err := in.Stat()
	if err != nil {
		return err
	}
	src := &Records{File: in}
	h, err := src.Begin()
	if err != nil {
		return err
	}
	if _, err := out.Write(make([]byte, HeaderSize)); err != nil {
		return err
	}
	for {
		payload, err := src.Next(st.Size())
		if errors.Is(err, io.EOF) && len(src.rest) == 0 {
			break
		}
		if err != nil {
			return fmt.Errorf("behind %d entries: %w", h.Entries, err)
		}
		if payload[0] == kindEntry {
			h.Entries++
		}
		full, err := f.add(payload)
		if full && err == nil {
			if err = f.finish(out); err == nil {
				err = rest(ctx)
			}
		}
		if err != nil {
			return err
		}
	}
	if err := f.finish(out); err != nil {
		return err
	}
	h.Codec = CodecPacked
	_, err = out.WriteAt(h.Append(nil), 0)
	return err
}

// rest lets the others have the processor.
func rest(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(packPause):
		return nil
	}
}
