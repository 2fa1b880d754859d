package deb

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

const (
	arMagic      = "!<arch>\n"
	arHeaderSize = 60
)

// findData finds the data archive among the members of a package:
//
//	!<arch>\n
//	16 name  12 time  6 owner  6 group  8 mode  10 size  2 end (`\n), then the content, padded to an even size
func findData(f *os.File) (member string, data *io.SectionReader, err error) {
	st, err := f.Stat()
	if err != nil {
		return "", nil, err
	}
	magic := make([]byte, len(arMagic))
	if _, err := f.ReadAt(magic, 0); err != nil && !errors.Is(err, io.EOF) {
		return "", nil, err
	}
	if string(magic) != arMagic {
		return "", nil, errors.New("it is not a Debian package")
	}
	var header [arHeaderSize]byte
	for at := int64(len(arMagic)); at < st.Size(); {
		if _, err := f.ReadAt(header[:], at); err != nil {
			return "", nil, fmt.Errorf("archive header at %d: %w", at, err)
		}
		name := strings.TrimSuffix(strings.TrimSpace(string(header[:16])), "/")
		size, err := strconv.ParseInt(strings.TrimSpace(string(header[48:58])), 10, 64)
		at += arHeaderSize
		if err != nil || string(header[58:]) != "`\n" || size < 0 || size > st.Size()-at {
			return "", nil, fmt.Errorf("archive header at %d is damaged or the file is cut off", at-arHeaderSize)
		}
		if strings.HasPrefix(name, "data.tar") {
			return name, io.NewSectionReader(f, at, size), nil
		}
		at += size + size%2
	}
	return "", nil, errors.New("it has no data archive")
}
