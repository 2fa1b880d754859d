package appcontrol

import (
	"context"
	"time"
)

// The operations on container images.
const (
	OpImages      = "images"
	OpPull        = "pull"
	OpLoad        = "load"
	OpTake        = "take"
	OpProgress    = "progress"
	OpPrune       = "prune"
	OpRemoveImage = "remove-image"
)

// Image is a container image, or the part of one that a pull has fetched so far.
type Image struct {
	Name    string    `json:"name"`
	Digest  string    `json:"digest,omitempty"` // of its manifest or index
	Size    int64     `json:"size"`             // on the disk; a layer of several images counts for each
	Created time.Time `json:"created"`          // when it was pulled or loaded; wrong if the clock was wrong then
	Partial bool      `json:"partial,omitempty"`
	UsedBy  []string  `json:"used_by"`          // containers that are wanted or exist
	Needed  bool      `json:"needed,omitempty"` // the manager does not remove it by itself
}

// Work names an image to be pulled or to be taken from Docker's daemon, or a file to be loaded: a FIFO or a regular
// file.
type Work struct {
	Image string `json:"image,omitempty"`
	File  string `json:"file,omitempty"`
}

// Job is the id of work that has begun. The work ends when nobody asks for its progress for a while.
type Job struct {
	ID string `json:"id"`
}

// Progress is the progress of a job.
type Progress struct {
	Job
	Done    int64    `json:"done"` // bytes
	Size    int64    `json:"size"` // 0: not known yet
	Waiting bool     `json:"waiting,omitempty"`
	Ended   bool     `json:"ended,omitempty"`
	Images  []string `json:"images,omitempty"` // that the job has brought
	// Fault is why an earlier attempt has failed; the job continues.
	Fault string `json:"fault,omitempty"`
}

// Remove names an image to remove; empty: all images that no app needs.
type Remove struct {
	Image string `json:"image,omitempty"`
	Dry   bool   `json:"dry,omitempty"` // only list what would be removed
}

// Removed is one removed image, or the removed parts of an incomplete one.
type Removed struct {
	Image   string `json:"image"`
	Size    int64  `json:"size"`
	Partial bool   `json:"partial,omitempty"`
}

// Images lists the container images.
func (c Client) Images(ctx context.Context) ([]Image, error) {
	var list []Image
	err := c.call(ctx, OpImages, nil, &list)
	return list, err
}

// Begin starts the work: OpPull, OpTake or OpLoad.
func (c Client) Begin(ctx context.Context, op string, w Work) (Job, error) {
	var j Job
	err := c.call(ctx, op, w, &j)
	return j, err
}

// Progress waits until a job has made progress, or for a moment. If the job failed, the error is that of the job.
func (c Client) Progress(ctx context.Context, j Job) (Progress, error) {
	var p Progress
	err := c.call(ctx, OpProgress, j, &p)
	return p, err
}

// Remove removes container images: OpPrune or OpRemoveImage.
func (c Client) Remove(ctx context.Context, op string, r Remove) ([]Removed, error) {
	var list []Removed
	err := c.call(ctx, op, r, &list)
	return list, err
}
