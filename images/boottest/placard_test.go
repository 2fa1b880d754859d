package boottest

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"image"
	"image/color"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// textScreen is what the kernel says of a terminal: the characters of its cells, in rows.
type textScreen struct {
	columns int
	cells   string // a byte each
}

// observeText reads the first terminal of a guest.
func (s *scene) observeText(ctx context.Context) (textScreen, error) {
	out, err := s.device.Output(ctx, "stty -F /dev/tty1 size && base64 /dev/vcs1")
	if err != nil {
		return textScreen{}, err
	}
	size, packed, _ := strings.Cut(out, "\n")
	var rows int
	var text textScreen
	if _, err := fmt.Sscanf(size, "%d %d", &rows, &text.columns); err != nil {
		return text, fmt.Errorf("size of the terminal %q: %w", size, err)
	}
	cells, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(packed, "\n", ""))
	if err != nil {
		return text, fmt.Errorf("text of the terminal: %w", err)
	}
	if text.cells = string(cells); len(cells) != rows*text.columns || rows == 0 {
		return text, fmt.Errorf("terminal of %s with %d cells", size, len(cells))
	}
	return text, nil
}

// leastGlyphs is how many characters a placard has, at least.
const leastGlyphs = 15

// shows compares a picture with a text: blanks are black, each other character has one glyph wherever it stands, and no
// two characters have the same. It needs no font for that.
func (t textScreen) shows(p image.Image) error {
	width := p.Bounds().Dx() / t.columns
	cell := image.Pt(width, 2*width) // the kernel's letters have 8 x 16 pixels, or a multiple
	if rows := len(t.cells) / t.columns; p.Bounds().Dy()/cell.Y != rows {
		return fmt.Errorf("%d rows on a screen of %v, with letters of %v", rows, p.Bounds().Max, cell)
	}
	glyphs, characters := map[byte]string{}, map[string]byte{}
	for i := range len(t.cells) {
		c := t.cells[i]
		at := image.Pt(i%t.columns*cell.X, i/t.columns*cell.Y)
		glyph := glyphOf(p, image.Rectangle{at, at.Add(cell)})
		blank := !strings.Contains(glyph, "#")
		switch {
		case (c == ' ' || c == 0) != blank:
			return fmt.Errorf("row %d, column %d: %q is drawn as\n%s", i/t.columns, i%t.columns, c, glyph)
		case blank:
			continue
		}
		if before, known := glyphs[c]; known && before != glyph {
			return fmt.Errorf("row %d, column %d: %q is not drawn as before\n%s\n%s", i/t.columns, i%t.columns, c,
				before, glyph)
		}
		if other, known := characters[glyph]; known && other != c {
			return fmt.Errorf("%q and %q look the same\n%s", other, c, glyph)
		}
		glyphs[c], characters[glyph] = glyph, c
	}
	if len(glyphs) < leastGlyphs {
		return fmt.Errorf("%d different characters in %q, want %d", len(glyphs), t.cells, leastGlyphs)
	}
	return nil
}

// glyphOf draws a part of a picture: # for what is not black.
func glyphOf(p image.Image, part image.Rectangle) string {
	var b strings.Builder
	for y := part.Min.Y; y < part.Max.Y; y++ {
		for x := part.Min.X; x < part.Max.X; x++ {
			mark := byte('.')
			if r, g, bl, _ := p.At(p.Bounds().Min.X+x, p.Bounds().Min.Y+y).RGBA(); r+g+bl > 3*0x2000 {
				mark = '#'
			}
			b.WriteByte(mark)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// placard TIMEOUT: waits until the screen shows the text of the first terminal, glyph by glyph.
func cmdPlacard(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "placard TIMEOUT")
	timeout, err := time.ParseDuration(args[0])
	ts.Check(err)
	s := sceneOf(ts)
	ctx, cancel := context.WithTimeout(s.ctx, hostLimit(timeout))
	defer cancel()
	file := ts.MkAbs("placard.png")
	for {
		fault := s.placardShown(ctx, file)
		if fault == nil {
			return
		}
		if ctx.Err() == nil || err == nil {
			err = fault
		}
		select {
		case <-time.After(time.Second): // it is drawn again now and then
		case <-ctx.Done():
			ts.Fatalf("placard: not within %v: %v; see %s", timeout, err, file)
		}
	}
}

func (s *scene) placardShown(ctx context.Context, file string) error {
	text, err := s.observeText(ctx)
	if err != nil {
		return err
	}
	if err := s.shoot(ctx, file); err != nil {
		return err
	}
	picture, err := readPNG(file)
	if err != nil {
		return err
	}
	after, err := s.observeText(ctx)
	if err == nil && after != text {
		err = errors.New("the text changes")
	}
	return errors.Join(err, text.shows(picture))
}

// drawText draws a text with made-up glyphs, of 8 x 16 pixels.
func drawText(t textScreen, glyph func(c byte, x, y int) bool) *image.NRGBA {
	p := image.NewNRGBA(image.Rect(0, 0, 8*t.columns, 16*len(t.cells)/t.columns+9))
	for i := range p.Pix {
		p.Pix[i] = byte(i % 4 / 3 * 255) // black, opaque
	}
	for i := range len(t.cells) {
		for n := range 8 * 16 {
			if c := t.cells[i]; c != ' ' && c != 0 && glyph(c, n%8, n/8) {
				p.Set(i%t.columns*8+n%8, i/t.columns*16+n/8, color.NRGBA{170, 170, 170, 255})
			}
		}
	}
	return p
}

// TestShows: a screen shows a text or does not.
func TestShows(t *testing.T) {
	text := textScreen{20, "resin 1234567 hello\x00" + "a key starts a shell" + "                    "}
	good := func(c byte, x, y int) bool { return y == 3 || x < 8 && y > 4 && y < 13 && c>>(y-5)&1 == 1 }
	if err := text.shows(drawText(text, good)); err != nil {
		t.Errorf("the text itself: %v", err)
	}
	other := textScreen{20, strings.Replace(text.cells, "shell", "shelf", 1)}
	for name, p := range map[string]image.Image{
		"black":         drawText(text, func(byte, int, int) bool { return false }),
		"another text":  drawText(other, good),
		"all the same":  drawText(text, func(_ byte, x, y int) bool { return y == 3 }),
		"moved by half": drawText(textScreen{20, " " + text.cells[:len(text.cells)-1]}, good),
		"white": &image.NRGBA{Pix: bytes.Repeat([]byte{0xff}, 4*160*57), Stride: 4 * 160,
			Rect: image.Rect(0, 0, 160, 57)},
	} {
		if err := text.shows(p); err == nil {
			t.Errorf("a screen that is %s shows the text", name)
		}
	}
	few := textScreen{20, strings.Repeat("resin ", 10)}
	if err := few.shows(drawText(few, good)); err == nil {
		t.Error("a screen with five letters is a placard")
	}
}
