package inject

import (
	"io"
	"net/http"
)

// readChunk is what is read at a time while a page is held: enough for most
// pages whole, and the rest of a long file can still go by sendfile.
const readChunk = 16 << 10

// ReadFrom implements io.ReaderFrom. It goes through Write until the page is
// not held any more, and hands the rest to the inner writer.
func (w *ResponseWriter) ReadFrom(r io.Reader) (n int64, err error) {
	if w.phase == phaseHeader {
		w.WriteHeader(http.StatusOK)
	}
	for w.phase != phasePass || w.enc.active() {
		done := false
		n, done, err = w.readOne(r, n)
		if done || err != nil {
			return n, err
		}
	}
	if err := w.sendWaiting(); err != nil {
		return n, err
	}
	var rest int64
	if from, ok := w.inner.(io.ReaderFrom); ok {
		rest, err = from.ReadFrom(r)
	} else {
		chunk := takeBuffer()
		defer chunk.release()
		// The inner writer is bare, so there is no way back to here.
		rest, err = io.CopyBuffer(onlyWriter{w.inner}, r, chunk.whole())
	}
	w.written += rest
	return n + rest, err
}

// readOne moves one chunk from r to Write.
func (w *ResponseWriter) readOne(r io.Reader, n int64) (total int64, done bool, err error) {
	chunk := takeBuffer()
	defer chunk.release()
	m, err := r.Read(chunk.whole()[:readChunk])
	if m > 0 {
		taken, werr := w.Write(chunk.whole()[:m])
		n += int64(taken)
		if werr != nil {
			return n, true, werr
		}
	}
	if err == io.EOF {
		return n, true, nil
	}
	return n, false, err
}

// onlyWriter hides everything but Write.
type onlyWriter struct{ io.Writer }
