package forward

import (
	"container/list"
	"time"

	"resinos/net/dnswire"
)

// The limits of the cache. An answer that is no longer valid is kept, because it is better than none if no server
// answers (RFC 8767).
const (
	maxEntries = 4096
	maxBytes   = 2 << 20
	maxEntry   = 8 << 10
	maxStale   = 24 * time.Hour
)

// cache keeps answers. It is not safe for concurrent use.
type cache struct {
	entries map[dnswire.Question]*list.Element
	order   list.List // of *entry, the one that was used last in front
	bytes   int
}

type entry struct {
	question dnswire.Question
	reply    dnswire.Reply
	came     time.Time // from the server
	expires  time.Time
	retry    time.Time // when servers are asked again, after they did not answer; until then the old answer counts
}

// find returns what is kept for the question, which may be stale, or nil.
func (c *cache) find(q dnswire.Question, now time.Time) *entry {
	at, ok := c.entries[q]
	if !ok {
		return nil
	}
	e := at.Value.(*entry)
	if now.After(e.expires.Add(maxStale)) {
		c.remove(at)
		return nil
	}
	c.order.MoveToFront(at)
	return e
}

func (c *cache) keep(q dnswire.Question, r dnswire.Reply, now time.Time) {
	if r.Lifetime <= 0 || r.Size() > maxEntry {
		return
	}
	if at, ok := c.entries[q]; ok {
		c.remove(at)
	}
	if c.entries == nil {
		c.entries = map[dnswire.Question]*list.Element{}
	}
	c.entries[q] = c.order.PushFront(&entry{question: q, reply: r, came: now, expires: now.Add(r.Lifetime)})
	c.bytes += r.Size() + len(q.Name)
	for len(c.entries) > maxEntries || c.bytes > maxBytes {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(at *list.Element) {
	e := c.order.Remove(at).(*entry)
	delete(c.entries, e.question)
	c.bytes -= e.reply.Size() + len(e.question.Name)
}

// expire makes all answers stale: other servers may know better.
func (c *cache) expire(now time.Time) {
	for at := c.order.Front(); at != nil; at = at.Next() {
		e := at.Value.(*entry)
		if e.expires.After(now) {
			e.expires = now
		}
		e.retry = time.Time{}
	}
}
