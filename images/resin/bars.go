package main

import (
	"io"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// bars is a build.Progress for terminals: a line for each running stage, a bar with rate for each download.
type bars struct {
	all *mpb.Progress
	mu  sync.Mutex // guards downloads
	// downloads are the bars by what is fetched.
	downloads map[string]*mpb.Bar
}

func newBars(out io.Writer) *bars {
	return &bars{all: mpb.New(mpb.WithOutput(out), mpb.WithWidth(40)), downloads: map[string]*mpb.Bar{}}
}

// Begin shows the stage until it ends.
func (b *bars) Begin(stage string) func(bool) {
	bar := b.all.New(1, mpb.SpinnerStyle(), mpb.BarRemoveOnComplete(),
		mpb.AppendDecorators(decor.Name(stage+" "), decor.Elapsed(decor.ET_STYLE_GO)))
	return func(bool) { bar.SetCurrent(1) }
}

// Advance shows the progress of a download.
func (b *bars) Advance(what string, done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	bar, ok := b.downloads[what]
	if !ok {
		bar = b.all.AddBar(total, mpb.BarRemoveOnComplete(), mpb.PrependDecorators(decor.Name(what)),
			mpb.AppendDecorators(decor.CountersKiloByte("% .1f / % .1f "), decor.AverageSpeed(decor.SizeB1000(0),
				"% .1f")))
		b.downloads[what] = bar
	}
	bar.SetTotal(total, total > 0 && done >= total)
	bar.SetCurrent(done)
}

// Note prints the remark above the bars.
func (b *bars) Note(text string) {
	_, _ = b.all.Write([]byte("note: " + text + "\n")) // progress: nothing depends on it
}

// wait removes what is still shown.
func (b *bars) wait() {
	b.mu.Lock()
	for _, bar := range b.downloads {
		bar.Abort(true)
	}
	b.mu.Unlock()
	b.all.Shutdown()
}
