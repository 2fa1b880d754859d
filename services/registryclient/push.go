package registryclient

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// HasBlob reports whether the repository has a blob.
func (h Host) HasBlob(ctx context.Context, digest string) (bool, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, h.Blob(digest), nil)
	if err != nil {
		return false, err
	}
	resp, err := h.http.Do(r)
	if err != nil {
		return false, err
	}
	_ = resp.Body.Close() // it has none
	return resp.StatusCode == http.StatusOK, nil
}

// PutBlob puts a blob into the repository, unless it is there.
func (h Host) PutBlob(ctx context.Context, digest string, content *io.SectionReader) error {
	if there, err := h.HasBlob(ctx, digest); err != nil || there {
		return err
	}
	begin, err := http.NewRequestWithContext(ctx, http.MethodPost, h.at("blobs", "uploads")+"/", nil)
	if err != nil {
		return err
	}
	_, head, err := h.ask(begin, http.StatusAccepted)
	if err != nil {
		return err
	}
	at, err := h.URL.Parse(head.Get("Location"))
	if err != nil || head.Get("Location") == "" {
		return fmt.Errorf("push blob: the registry does not say where it wants it (Location %q)", head.Get("Location"))
	}
	query := at.Query()
	query.Set("digest", digest)
	at.RawQuery = query.Encode()
	return h.put(ctx, at, "application/octet-stream", content)
}

// PutManifest puts a manifest into the repository, under a tag or its digest.
func (h Host) PutManifest(ctx context.Context, name, mediaType string, text []byte) error {
	at, err := url.Parse(h.at("manifests", name))
	if err != nil {
		return err
	}
	return h.put(ctx, at, mediaType, io.NewSectionReader(bytes.NewReader(text), 0, int64(len(text))))
}

func (h Host) put(ctx context.Context, at *url.URL, mediaType string, content *io.SectionReader) error {
	open := func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(content, 0, content.Size())), nil
	}
	body, err := open()
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, at.String(), body)
	if err != nil {
		return err
	}
	r.GetBody, r.ContentLength = open, content.Size() // it is sent again after a login
	r.Header.Set("Content-Type", mediaType)
	_, _, err = h.ask(r, http.StatusCreated)
	return err
}
