package supervise

import (
	"testing"
	"time"
)

func TestRefusalsAreBoundedAndCounted(t *testing.T) {
	var r refusals
	now := time.Now()
	said := 0
	for range 1000 {
		if say, _ := r.next(now); say {
			said++
		}
	}
	if said != refusalsSaid {
		t.Errorf("%d of 1000 refusals are logged, want %d", said, refusalsSaid)
	}
	if say, silent := r.next(now.Add(refusalsEvery)); !say || silent != 1000-refusalsSaid {
		t.Errorf("a minute later: logged %v, %d silent before it, want %d", say, silent, 1000-refusalsSaid)
	}
	if say, silent := r.next(now.Add(refusalsEvery)); !say || silent != 0 {
		t.Errorf("the silent ones are counted twice: %v, %d", say, silent)
	}
}
