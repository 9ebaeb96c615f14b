package outbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const lockFile = "lock"

// Outbox is an open queue. Its methods may be called from any goroutine.
type Outbox struct {
	dir string
	fs  fsys
	// maxDisk and overflow are options that SetLimits changes.
	maxDisk  atomic.Int64
	overflow atomic.Int32

	opt  Options
	log  *zap.Logger
	lock io.Closer

	mu      sync.Mutex
	queues  map[string]*queue
	group   *group // what the next commit takes
	backlog int64  // bytes taken and not yet committed
	disk    int64  // bytes of segments and dead letters
	sink    *sinkInUse
	closed  bool
	damaged int64 // damaged lines met
	cut     int64 // bytes of torn tails cut at open
	dropped int64 // rows gone, see Observer.Dropped
	spells  map[[2]string]*spell
	mirrors mirrors

	letters sync.Mutex // serializes file work on dead letters; before mu

	wake      chan struct{} // committer: there is work
	sweep     chan struct{} // janitor: space is short
	stop      chan struct{} // closed by Close
	committed chan struct{} // closed when the committer has ended
	closeOnce sync.Once
	closeErr  error
	workers   sync.WaitGroup     // couriers, janitor and feeder
	closers   sync.WaitGroup     // of sinks that were replaced
	ctx       context.Context    // of deliveries
	cancel    context.CancelFunc // ends deliveries that outlive the grace
}

// queue is a datasource.
type queue struct {
	name string
	dir  string
	low  bool

	// The committer's own; no lock.
	made bool       // the directory is there and durable
	open *segment   // being written
	rest []*segment // out of use, not yet sealed because the disk failed

	// The courier's own; no lock.
	text []byte // the file that was read last, its place to be used again

	// Under Outbox.mu.
	lastSeq int64
	pending *chunk
	// invalid is the part for rows that are dead letters from the start, and
	// of, in that part, the queue that it is a part of. See AppendInvalid.
	invalid, of *queue
	// spares are the buffers of the last two chunks, to be filled again: one is
	// filled while the other is written. (A sync.Pool is emptied at each
	// collection, just when many rows make many of these.)
	spares   []chunkBuffers
	sealed   []*segment // ascending by name
	openRows int        // mirrors of open and rest
	openSize int64
	openBorn time.Time
	dead     map[string]*letter
	maxBody  int64 // bytes of a body; lowered by a sink that refuses larger ones
	delivery delivery
	wake     chan struct{} // courier: something changed
}

// segment is a file of rows.
type segment struct {
	name string
	file string // its present name in the queue's directory
	rows int
	size int64 // bytes on disk that are known to be good
	body int64 // bytes of JSON and LFs among them

	// While it is written.
	f      file
	header int64 // bytes of the header line
	broken bool  // a write or sync failed: cut to size before it is trusted
	sealAt time.Time
	why    reason // of invalid rows

	// Once it is sealed; under Outbox.mu.
	sealedAt time.Time
	owed     bool // to a mirror: not to be delivered before
	attempts
}

// group is what one commit makes durable.
type group struct {
	chunks  []*chunk
	rows    int
	size    int64
	waiters int           // Appends that wait: commit at once
	due     time.Time     // else by then
	seal    bool          // Flush: seal what is open
	done    chan struct{} // closed after the commit
}

// chunk is a group's rows of one datasource, encoded.
type chunk struct {
	q *queue
	chunkBuffers
	added int    // rows among them that nobody waits for
	why   string // of invalid rows: the reason of the first
	err   error  // set before done is closed
}

type chunkBuffers struct {
	buf  []byte
	ends []int // of each record in buf
}

// takeSpare gives buffers to be filled, under Outbox.mu.
func (q *queue) takeSpare() (b chunkBuffers) {
	if n := len(q.spares); n > 0 {
		b, q.spares = q.spares[n-1], q.spares[:n-1]
	}
	return b
}

// putSpare takes a chunk's buffers back, under Outbox.mu.
func (q *queue) putSpare(b chunkBuffers) {
	if cap(b.buf) <= maxSpare && len(q.spares) < 2 {
		q.spares = append(q.spares, chunkBuffers{b.buf[:0], b.ends[:0]})
	}
}

// Open locks and recovers a directory, which it makes if need be, and starts
// the committer. Nothing is delivered before SetSink. It fails with ErrLocked
// (wrapped) while the directory is in use, with ErrVersion for files of a newer
// program, and with what the disk said.
func Open(dir string, opt Options) (*Outbox, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	o := &Outbox{
		dir:       filepath.Clean(dir),
		fs:        opt.fs,
		opt:       opt,
		log:       opt.Logger,
		queues:    map[string]*queue{},
		wake:      make(chan struct{}, 1),
		sweep:     make(chan struct{}, 1),
		stop:      make(chan struct{}),
		committed: make(chan struct{}),
		mirrors:   mirrors{wake: make(chan struct{}, 1)},
	}
	o.maxDisk.Store(opt.MaxDisk)
	o.overflow.Store(int32(opt.Overflow))
	if err := o.fs.MkdirAll(o.dir); err != nil {
		return nil, fmt.Errorf("making outbox directory %s: %w", o.dir, err)
	}
	if o.lock, err = o.fs.Lock(o.dir); err != nil {
		if errors.Is(err, ErrLocked) {
			return nil, fmt.Errorf("%w: %s: stop the other process or give this one a path of its own", ErrLocked, o.dir)
		}
		return nil, fmt.Errorf("opening outbox %s: %w", o.dir, err)
	}
	if err := o.recoverAll(); err != nil {
		o.lock.Close()
		return nil, fmt.Errorf("opening outbox %s: %w", o.dir, err)
	}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	for _, q := range o.queues {
		o.workers.Go(func() { o.courier(q) })
	}
	o.workers.Go(o.janitor)
	go o.committer()
	return o, nil
}

// SetLimits changes MaxDisk and Overflow while the outbox is in use, as a
// reload of the configuration does. Zero is the default of MaxDisk.
func (o *Outbox) SetLimits(maxDisk int64, overflow Overflow) error {
	opt := o.opt
	opt.MaxDisk, opt.Overflow = maxDisk, overflow
	opt, err := opt.withDefaults()
	if err != nil {
		return err
	}
	o.maxDisk.Store(opt.MaxDisk)
	o.overflow.Store(int32(opt.Overflow))
	signal(o.sweep)
	o.mu.Lock()
	for _, m := range o.mirrors.list {
		m.resized = true
	}
	o.mu.Unlock()
	signal(o.mirrors.wake)
	return nil
}

// queue finds or makes a datasource's queue, under the lock.
func (o *Outbox) queue(name string) *queue {
	q := o.queues[name]
	if q == nil {
		q = o.newQueue(name)
		o.queues[name] = q
		o.workers.Go(func() { o.courier(q) })
	}
	return q
}

func (o *Outbox) newQueue(name string) *queue {
	return &queue{
		name:     name,
		dir:      filepath.Join(o.dir, name),
		low:      slices.Contains(o.opt.LowPriority, name),
		dead:     map[string]*letter{},
		maxBody:  o.opt.SegmentBytes,
		delivery: delivery{state: StateOK},
		wake:     make(chan struct{}, 1),
	}
}

// nextName makes a segment's name, under the lock.
func (q *queue) nextName() string {
	if q.of != nil {
		return q.of.nextName()
	}
	q.lastSeq = max(q.lastSeq+1, time.Now().UnixMicro())
	return segmentName(q.lastSeq)
}

// Flush commits what was added, seals every open segment, and ends the
// couriers' backoff (not what a sink asked for, not parked batches), those of
// the mirrors too.
func (o *Outbox) Flush(ctx context.Context) error {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return ErrClosed
	}
	sealed := o.sealSoon()
	o.mu.Unlock()
	o.hurry()
	select {
	case <-sealed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the outbox to commit: %w", ctx.Err())
	}
}

// sealSoon has what was added committed and every open segment sealed, and
// returns what is closed then. Under the lock.
func (o *Outbox) sealSoon() <-chan struct{} {
	if o.group == nil {
		o.group = &group{done: make(chan struct{})}
	}
	o.group.seal = true
	o.group.waiters++
	signal(o.wake)
	return o.group.done
}

// Close commits what was added, waits CloseGrace at most for requests in
// flight, closes the files and unlocks. Appends that wait are answered first,
// later ones get ErrClosed. It returns what kept added rows from the disk.
func (o *Outbox) Close() error {
	o.closeOnce.Do(func() {
		o.mu.Lock()
		o.closed = true
		o.mu.Unlock()
		close(o.stop)
		grace := time.AfterFunc(o.opt.CloseGrace, o.cancel)
		<-o.committed
		o.workers.Wait()
		grace.Stop()
		o.cancel()
		o.mu.Lock()
		if o.sink != nil {
			o.sink.replaced = true
			o.releaseIfUnused(o.sink)
		}
		o.mu.Unlock()
		o.closers.Wait()
		o.closeErr = errors.Join(o.closeErr, o.lock.Close())
	})
	return o.closeErr
}

// signal wakes a goroutine that is asleep or about to be; never blocks.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
