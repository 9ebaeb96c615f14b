package inject

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// zstdWindow is the largest window that RFC 9659 lets a server use.
const zstdWindow = 8 << 20

// brotliSurplus is the text of the unexported error by which the brotli reader
// says that its stream is complete and bytes follow. It says so wrongly at times
// when its input comes in very small pieces; either way the page is whole.
const brotliSurplus = "brotli: excessive input"

// errStopped ends a decoder whose output is not wanted any more.
var errStopped = errors.New("decoding stopped")

// contentCoding is the one coding that the body is in, "" for none. known is
// false for codings, or rows of codings, that cannot be decoded here.
func contentCoding(h http.Header) (coding string, known bool) {
	for _, line := range h["Content-Encoding"] {
		for c := range strings.SplitSeq(line, ",") {
			c = strings.ToLower(strings.TrimSpace(c))
			switch c {
			case "", "identity":
				continue
			case "x-gzip":
				c = "gzip"
			case "gzip", "br", "zstd", "deflate":
			default:
				return c, false
			}
			if coding != "" {
				return coding, false
			}
			coding = c
		}
	}
	return coding, true
}

// decoder turns the pull of a decompressor into push: what is written to it is
// decoded and handed to the sink before write returns, so that a flush by the
// upstream reaches the visitor. The decompressor runs as a coroutine, which is
// never active while its owner is.
type decoder struct {
	in    []byte
	last  bool
	ended bool // the owner stopped us
	done  bool // the decompressor returned
	err   error
	sunk  error // what the sink returned

	yield func(struct{}) bool
	next  func() (struct{}, bool)
	stop  func()
}

func newDecoder(coding string, sink func([]byte) error) *decoder {
	d := new(decoder)
	d.next, d.stop = iter.Pull(func(yield func(struct{}) bool) {
		d.yield = yield
		d.err = d.run(coding, sink)
	})
	return d
}

// write decodes p. Bytes behind the end of the compressed data are ignored, as
// browsers do.
func (d *decoder) write(p []byte) error {
	if len(p) == 0 && !d.last {
		return d.err
	}
	d.in = p
	if !d.done {
		_, more := d.next()
		d.done = !more
	}
	d.in = nil
	return d.err
}

// close tells the decompressor that its input has ended, and lets go of it.
func (d *decoder) close() error {
	d.last = true
	err := d.write(nil)
	d.stop()
	return err
}

// Read implements io.Reader for the decompressor.
func (d *decoder) Read(p []byte) (int, error) {
	for len(d.in) == 0 {
		switch {
		case d.last:
			return 0, io.EOF
		case d.ended || !d.yield(struct{}{}):
			d.ended = true
			return 0, errStopped
		}
	}
	n := copy(p, d.in)
	d.in = d.in[n:]
	return n, nil
}

func (d *decoder) run(coding string, sink func([]byte) error) error {
	in := bufio.NewReader(d)
	chunk := takeBuffer()
	defer chunk.release()
	drain := func(r io.Reader) error {
		for {
			n, err := r.Read(chunk.whole())
			if d.ended {
				// What a decompressor still had is nobody's any more.
				return errStopped
			}
			if n > 0 {
				if d.sunk = sink(chunk.whole()[:n]); d.sunk != nil {
					return d.sunk
				}
			}
			if err == io.EOF || err != nil && err.Error() == brotliSurplus {
				return nil
			}
			if err != nil {
				return fmt.Errorf("decoding %s page: %w", coding, err)
			}
		}
	}
	switch coding {
	case "gzip":
		return gunzip(in, drain)
	case "br":
		return drain(brotli.NewReader(in))
	case "zstd":
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return fmt.Errorf("decoding zstd page: %w", err)
		}
		defer z.Close()
		return drain(z)
	}
	return inflate(in, drain)
}

// gunzip reads members until something else follows.
func gunzip(in *bufio.Reader, drain func(io.Reader) error) error {
	z, err := gzip.NewReader(in)
	if err != nil {
		return fmt.Errorf("decoding gzip page: %w", err)
	}
	for {
		z.Multistream(false)
		if err := drain(z); err != nil {
			return err
		}
		if z.Reset(in) != nil {
			return nil
		}
	}
}

// inflate takes both forms of "deflate" that are in use: zlib's, which the
// standard means, and the raw one.
func inflate(in *bufio.Reader, drain func(io.Reader) error) error {
	head, _ := in.Peek(2)
	if len(head) == 2 && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
		z, err := zlib.NewReader(in)
		if err != nil {
			return fmt.Errorf("decoding deflate page: %w", err)
		}
		return drain(z)
	}
	return drain(flate.NewReader(in))
}
