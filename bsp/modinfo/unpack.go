package modinfo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// readFiles reads and uncompresses many module files. One run of the host's xz for all of them is five times as fast as
// Go's decoder (134 modules: 0.11 s and 0.44 s, and a board has 500). Without xz, and for other compressions, Go does
// it.
func readFiles(ctx context.Context, files []string) ([][]byte, error) {
	program, err := exec.LookPath("xz")
	other := func(file string) bool { return filepath.Ext(file) != ".xz" }
	if err != nil || len(files) < 2 || slices.ContainsFunc(files, other) {
		return readEach(ctx, files)
	}
	sizes, err := listSizes(ctx, program, files)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, append([]string{"-dc", "--"}, files...)...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	contents, readErr := split(bufio.NewReaderSize(out, 1<<20), sizes)
	if readErr != nil { // let xz end, so that its own message can explain
		_, _ = io.Copy(io.Discard, out)
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("unpack modules: xz: %w: %s", err, strings.TrimSpace(complaints.String()))
	}
	if readErr != nil {
		return nil, fmt.Errorf("unpack modules: %w", readErr)
	}
	return contents, nil
}

func split(stream io.Reader, sizes []int64) ([][]byte, error) {
	contents := make([][]byte, len(sizes))
	for i, size := range sizes {
		contents[i] = make([]byte, size)
		if _, err := io.ReadFull(stream, contents[i]); err != nil {
			return nil, err
		}
	}
	return contents, nil
}

// listSizes asks xz how large the files are when uncompressed.
func listSizes(ctx context.Context, program string, files []string) ([]int64, error) {
	out, err := exec.CommandContext(ctx, program, append([]string{"--robot", "--list", "--"}, files...)...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.New(strings.TrimSpace(string(exit.Stderr)))
		}
		return nil, fmt.Errorf("measure modules: xz: %w", err)
	}
	var sizes []int64
	for line := range strings.Lines(string(out)) {
		f := strings.Split(line, "\t")
		if f[0] != "file" || len(f) < 5 { // file STREAMS BLOCKS COMPRESSED UNCOMPRESSED ...
			continue
		}
		size, err := strconv.ParseInt(f[4], 10, 64)
		if err != nil || size < 0 || size > mostModule {
			return nil, fmt.Errorf("measure modules: xz says size %q", f[4])
		}
		sizes = append(sizes, size)
	}
	if len(sizes) != len(files) {
		return nil, fmt.Errorf("measure modules: xz lists %d files of %d", len(sizes), len(files))
	}
	return sizes, nil
}

func readEach(ctx context.Context, files []string) ([][]byte, error) {
	contents := make([][]byte, len(files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for i, file := range files {
		g.Go(func() error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			var err error
			contents[i], err = ReadFile(file)
			return err
		})
	}
	return contents, g.Wait()
}
