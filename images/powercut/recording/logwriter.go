package recording

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// A LogWriter writes a log in the form that OpenLog reads, for a disk that is not one of QEMU.
type LogWriter struct {
	file  *os.File
	at    int64
	count int
}

// CreateLog begins an empty log.
func CreateLog(name string) (*LogWriter, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("create write log: %w", err)
	}
	w := &LogWriter{file: f, at: SectorSize}
	if err := w.head(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

// Write appends a write of whole sectors.
func (w *LogWriter) Write(sector int64, data []byte) error {
	if len(data) == 0 || len(data)%SectorSize != 0 {
		return fmt.Errorf("write log: %d bytes are no whole sectors", len(data))
	}
	return w.add(uint64(sector), uint64(len(data)/SectorSize), 0, data)
}

// Flush appends a flush: all writes before it are on the disk.
func (w *LogWriter) Flush() error { return w.add(0, 0, flagFlush, nil) }

// Position is the number of entries so far.
func (w *LogWriter) Position() int { return w.count }

// Close closes the file.
func (w *LogWriter) Close() error { return w.file.Close() }

func (w *LogWriter) add(sector, sectors, flags uint64, data []byte) error {
	entry := make([]byte, SectorSize, SectorSize+len(data))
	for i, v := range []uint64{sector, sectors, flags} {
		binary.LittleEndian.PutUint64(entry[8*i:], v)
	}
	entry = append(entry, data...)
	if _, err := w.file.WriteAt(entry, w.at); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	w.at += int64(len(entry))
	w.count++
	return w.head()
}

func (w *LogWriter) head() error {
	head := make([]byte, SectorSize)
	for i, v := range []uint64{logMagic, logVersion, uint64(w.count), SectorSize} {
		binary.LittleEndian.PutUint64(head[8*i:], v)
	}
	if _, err := w.file.WriteAt(head, 0); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	return nil
}
