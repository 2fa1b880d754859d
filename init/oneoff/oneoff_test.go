package oneoff

import (
	"testing"
	"time"
)

func TestOver(t *testing.T) {
	begin := time.Unix(1000, 0)
	w := watch{begin: begin}
	for _, c := range []struct {
		after time.Duration
		alone bool
		want  bool
	}{
		{time.Second, true, false}, {patience - 1, true, false}, {patience, false, false},
		{patience + time.Second, true, true},
	} {
		if got := w.over(begin.Add(c.after), c.alone); got != c.want {
			t.Errorf("after %v, alone %t: %t", c.after, c.alone, got)
		}
	}
	if early := (watch{begin: begin}); !early.over(begin.Add(patience), true) {
		t.Error("it waits for ever for what never comes")
	}
	early := watch{begin: begin}
	if early.over(begin.Add(1), false) || !early.over(begin.Add(time.Second), true) {
		t.Error("it does not end with the command")
	}
}
