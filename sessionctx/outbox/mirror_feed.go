package outbox

import (
	"errors"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// feeder is the one goroutine that hands sealed segments over to the mirrors.
// Until it has, they are not delivered to the outbox's own sink: what is
// delivered is deleted. It also opens and closes the mirrors.
func (o *Outbox) feeder() {
	var closing sync.WaitGroup
	defer func() {
		o.mu.Lock()
		all := slices.Concat(o.mirrors.list, o.mirrors.parting, o.mirrors.leaving)
		o.mirrors.list, o.mirrors.parting, o.mirrors.leaving, o.mirrors.feeding = nil, nil, nil, false
		o.mu.Unlock()
		for _, m := range all {
			closing.Go(func() { o.closeMirror(m) })
		}
		closing.Wait()
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	o.tellOfStrays()
	for {
		wait := time.Hour
		if !o.feed(&closing) {
			wait = diskRetry
		}
		timer.Reset(wait)
		select {
		case <-o.mirrors.wake:
		case <-timer.C:
		case <-o.stop:
			return
		}
	}
}

// feed does all that there is to do, and reports whether it could.
func (o *Outbox) feed(closing *sync.WaitGroup) (done bool) {
	o.mu.Lock()
	leaving := o.mirrors.leaving
	o.mirrors.leaving = nil
	list := slices.Concat(o.mirrors.list, o.mirrors.parting)
	parted := map[*mirror]<-chan struct{}{} // if this pass gives them all that there is
	for _, m := range o.mirrors.parting {
		select {
		case <-m.sealed:
			parted[m] = m.sealed
		default:
		}
	}
	o.mu.Unlock()
	for _, m := range leaving {
		closing.Go(func() { o.closeMirror(m) })
	}
	done = true
	var feeding []*mirror
	for _, m := range list {
		drainOnly, err := o.keepOpen(m)
		if err != nil {
			done = false
		}
		if !drainOnly {
			feeding = append(feeding, m)
		}
	}
	for _, q := range o.all() {
		if !o.feedQueue(q, feeding) {
			done = false
		}
	}
	for _, m := range list {
		if m.unsaved {
			o.saveMarks(m)
		}
	}
	if done {
		o.letGo(parted)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return done && len(o.mirrors.parting)+len(o.mirrors.leaving) == 0
}

// letGo has parting mirrors closed that are owed nothing, unless they were named
// again meanwhile.
func (o *Outbox) letGo(parted map[*mirror]<-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mirrors.parting = slices.DeleteFunc(o.mirrors.parting, func(m *mirror) bool {
		gone := parted[m] != nil && parted[m] == m.sealed
		if gone {
			o.mirrors.leaving = append(o.mirrors.leaving, m)
		}
		return gone
	})
	o.mirrors.feeding = len(o.mirrors.parting) > 0 || slices.ContainsFunc(o.mirrors.list, func(m *mirror) bool { return !m.DrainOnly })
	if len(o.mirrors.leaving) > 0 {
		signal(o.mirrors.wake)
	}
}

// keepOpen opens a mirror that isn't, and makes one that is work as configured.
func (o *Outbox) keepOpen(m *mirror) (drainOnly bool, err error) {
	o.mu.Lock()
	want, box, changed, resized := m.Mirror, m.box, m.changed, m.resized
	m.changed, m.resized = false, false
	o.mu.Unlock()
	if box != nil {
		if changed {
			box.SetSink(want.Sink)
		}
		if resized {
			err = box.SetLimits(o.maxDisk.Load(), DropOldest)
		}
		return want.DrainOnly, err
	}
	if want.DrainOnly {
		if _, err := o.fs.ReadDir(m.dir); errors.Is(err, fs.ErrNotExist) {
			return true, nil // nothing was left
		}
	}
	opt := o.opt
	opt.MaxDisk, opt.Overflow = o.maxDisk.Load(), DropOldest
	opt.Logger = o.log.With(zap.String("sink", want.Name))
	opt.Observer = want.Observer
	opt.source = o
	box, err = Open(m.dir, opt)
	if err != nil {
		o.trouble(m, "", err)
		return want.DrainOnly, err
	}
	box.SetSink(want.Sink)
	m.works("")
	o.mu.Lock()
	m.box = box
	o.mu.Unlock()
	return want.DrainOnly, nil
}

// closeMirror lets go of a mirror's files.
func (o *Outbox) closeMirror(m *mirror) {
	o.mu.Lock()
	box := m.box
	closed := o.closed
	o.mu.Unlock()
	if box == nil {
		return
	}
	if err := box.Close(); err != nil {
		o.log.Error("closing a mirror", zap.String("sink", m.name), zap.Error(err))
	}
	if rows := box.Stats().Rows; rows > 0 && !closed {
		o.tellOfStray(m.name, m.dir, rows)
	}
}

// tellOfStrays names what mirrors left that are not configured.
func (o *Outbox) tellOfStrays() {
	o.mu.Lock()
	used := map[string]bool{}
	for _, m := range o.mirrors.list {
		used[m.name] = true
	}
	o.mu.Unlock()
	for _, left := range o.Mirrors() {
		if !left.InUse && !used[left.Name] {
			o.tellOfStray(left.Name, left.Path, left.Rows)
		}
	}
}

func (o *Outbox) tellOfStray(name, dir string, rows int64) {
	o.log.Warn("rows wait for a sink that is not configured any more: they are delivered when one of its name is; or delete the directory",
		zap.String("sink", name), zap.String("path", dir), zap.Int64("rows", rows))
}

// handover is a sealed segment as a mirror gets it.
type handover struct {
	segment  *segment
	name     string
	path     string
	file     string
	rows     int
	size     int64
	sealedAt time.Time
	owed     bool // to a mirror that may yet take it
}

// feedQueue hands a datasource's sealed segments over to the mirrors, and
// reports whether all have got theirs.
func (o *Outbox) feedQueue(q *queue, list []*mirror) bool {
	o.mu.Lock()
	var due []handover
	for _, s := range q.sealed {
		if s.owed {
			due = append(due, handover{segment: s, name: s.name, path: filepath.Join(q.dir, s.file), file: s.file, rows: s.rows, size: s.size, sealedAt: s.sealedAt})
		}
	}
	// Rows that are not sealed yet may be in an older segment: no mark may pass
	// that one.
	limit := int64(math.MaxInt64)
	if !q.openBorn.IsZero() {
		limit = q.openBorn.UnixMicro() - 1
	}
	o.mu.Unlock()
	if len(due) == 0 {
		return true
	}
	for _, m := range list {
		o.feedMirror(m, q.name, due, limit)
	}
	done := true
	o.mu.Lock()
	for _, h := range due {
		if h.owed {
			done = false
			continue
		}
		h.segment.owed = false
	}
	o.mu.Unlock()
	signal(q.wake)
	return done
}

// feedMirror hands segments over to one mirror: those that it has not got.
func (o *Outbox) feedMirror(m *mirror, datasource string, due []handover, limit int64) {
	mark := m.marks[datasource]
	var want []*handover
	for i := range due {
		if n, _ := sequenceOf(due[i].name); n > mark {
			want = append(want, &due[i])
		}
	}
	if len(want) == 0 {
		return
	}
	o.mu.Lock()
	box := m.box
	o.mu.Unlock()
	taken, part, err := 0, "", errors.New("it is not open")
	if box != nil {
		part = datasource
		taken, err = box.adopt(datasource, want)
	}
	if err == nil {
		m.works(part)
	} else {
		if o.trouble(m, part, err) {
			o.giveUpOn(m, datasource, want[taken:], err)
			taken = len(want)
		}
		for _, h := range want[taken:] {
			h.owed = true
		}
	}
	for _, h := range want[:taken] {
		n, _ := sequenceOf(h.name)
		mark = max(mark, n)
	}
	if taken < len(want) { // a half may be missing of which the other is there
		n, _ := sequenceOf(want[taken].name)
		limit = min(limit, n-1)
	}
	if mark = min(mark, limit); mark > m.marks[datasource] {
		m.marks[datasource] = mark
		m.unsaved = true
	}
}

// works notes that a mirror takes segments of a datasource, or is open.
func (m *mirror) works(datasource string) {
	delete(m.failing, datasource)
	if len(m.failing) == 0 {
		m.reported = false
	}
}

// trouble notes that a mirror can't take segments of a datasource, or can't be
// opened, and reports whether that has lasted so long that nothing waits for it
// any more.
func (o *Outbox) trouble(m *mirror, datasource string, err error) bool {
	now := time.Now()
	since, known := m.failing[datasource]
	if !known {
		since = now
		m.failing[datasource] = now
	}
	lasted := now.Sub(since) >= mirrorPatience
	// A predecessor that is still closing is no news.
	if !m.reported && (!errors.Is(err, ErrLocked) || lasted) {
		m.reported = true
		o.log.Error("a mirror can't take rows: they wait a minute, then the other sinks go on without it",
			zap.String("sink", m.name), zap.String("path", m.dir), zap.Error(err))
	}
	return lasted
}

// giveUpOn counts what a mirror does not get.
func (o *Outbox) giveUpOn(m *mirror, datasource string, lost []*handover, err error) {
	o.mu.Lock()
	observer := m.Observer
	o.mu.Unlock()
	for _, h := range lost {
		observer.Dropped(datasource, h.rows, err)
	}
}

// isFed tells, under the lock, whether new segments have to be handed over
// before they are delivered.
func (o *Outbox) isFed() bool { return o.mirrors.feeding }

// mirrorDelay is by how much longer rows wait for their segment to be sealed
// while sealed ones wait for the outbox's own sink, which may be down for a day:
// mirrors must not wait as long, nor the sink find a file for each second then.
// Nor must a mirror that has so many behind it: it would never catch up if a
// request takes it a second. The own sink waits for that, too, so it is less.
// Under the lock.
func (o *Outbox) mirrorDelay(q *queue, waiting bool, behind int) time.Duration {
	n := behind / 2
	if waiting {
		n = max(n, min(len(q.sealed), 59))
	}
	return time.Duration(n) * o.opt.SegmentAge
}

// behindMost is as many segments as mirrorsBehind counts: half of it in seconds
// is less than orderHold, so that sessions still go before their events.
const behindMost = 12

// mirrorsBehind is how many sealed segments wait for the mirror that has most.
func (o *Outbox) mirrorsBehind(datasource string, now time.Time) (most int) {
	for _, box := range o.mirrorBoxes(true) {
		box.mu.Lock()
		n := 0
		if q := box.queues[datasource]; q != nil {
			for _, s := range q.sealed {
				if n == behindMost {
					break
				}
				if !s.parked && !s.suspect(now) {
					n++
				}
			}
		}
		box.mu.Unlock()
		most = max(most, n)
	}
	return most
}

// hurry ends the couriers' backoff, and that of the mirrors.
func (o *Outbox) hurry() {
	o.mu.Lock()
	for _, q := range o.queues {
		q.delivery.hurry()
		signal(q.wake)
	}
	o.mu.Unlock()
	for _, box := range o.mirrorBoxes(false) {
		box.hurry()
	}
}
