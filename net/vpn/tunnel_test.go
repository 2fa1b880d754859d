package vpn

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// An openvpn that lives and does not answer yet is waited for: another one beside it would take its management socket,
// and nobody could end the first one any more. One of an earlier netd may be gone, and is given up.
func TestAwait(t *testing.T) {
	control := filepath.Join(t.TempDir(), controlFile)
	synctest.Test(t, func(t *testing.T) {
		ended, result := make(chan struct{}), make(chan error, 1)
		go func() {
			_, err := await(context.Background(), control, ended)
			result <- err
		}()
		time.Sleep(time.Hour)
		select {
		case err := <-result:
			t.Fatalf("given up while it lives: %v", err)
		default:
		}
		close(ended)
		if err := <-result; err == nil {
			t.Error("no error after its end")
		}
		begin := time.Now()
		if _, err := await(context.Background(), control, nil); err == nil || time.Since(begin) < startLimit {
			t.Errorf("of an earlier netd: %v after %s", err, time.Since(begin))
		}
	})
}

// Nobody waits when netd ends; when only the tunnel is not wanted any more, its end is waited for.
func TestAwaitEnds(t *testing.T) {
	control := filepath.Join(t.TempDir(), controlFile)
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancelCause(context.Background())
		stop(context.Canceled)
		if _, err := await(ctx, control, make(chan struct{})); err == nil {
			t.Error("no error at the end of netd")
		}
		ctx, stop = context.WithCancelCause(context.Background())
		stop(errNotWanted)
		begin, ended := time.Now(), make(chan struct{})
		time.AfterFunc(time.Minute, func() { close(ended) })
		if _, err := await(ctx, control, ended); err == nil || time.Since(begin) < time.Minute {
			t.Errorf("not wanted any more: %v after %s", err, time.Since(begin))
		}
	})
}
