package sessionctx

import (
	"encoding/binary"
	"errors"
	"strings"
)

// What is sealed is a compact binary form, since it travels in every page and
// cookie: a version byte, then fields in a fixed order, numbers as varints,
// texts with their length before them. A later version may only append; what
// a node can't read counts as absent.

var errCodec = errors.New("sealed state is truncated or of an unknown version")

type encoder struct{ b []byte }

func (e *encoder) byte(v byte)    { e.b = append(e.b, v) }
func (e *encoder) int(v int64)    { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) count(n int)    { e.b = binary.AppendUvarint(e.b, uint64(n)) }
func (e *encoder) text(s string)  { e.count(len(s)); e.b = append(e.b, s...) }
func (e *encoder) bools(v uint64) { e.b = binary.AppendUvarint(e.b, v) }

// id writes an id as its 16 bytes.
func (e *encoder) id(s string) {
	u, ok := parseID(s)
	if !ok {
		// Only ids that this package made or verified get here.
		panic("sessionctx: encoding a malformed id")
	}
	e.b = append(e.b, u[:]...)
}

func (e *encoder) touch(t *Touch) {
	e.int(t.Time)
	for _, s := range [...]string{
		t.UTM.Source, t.UTM.Medium, t.UTM.Campaign, t.UTM.Term, t.UTM.Content,
		t.Ref, t.Source, t.Referrer, t.LandingPage,
	} {
		e.text(s)
	}
	e.count(len(t.ClickIDs))
	for _, c := range t.ClickIDs {
		e.text(c.Name)
		e.text(c.Value)
	}
}

func (e *encoder) attribution(a *Attribution) {
	same := a.Original.Time == a.Current.Time && a.Original.LandingPage == a.Current.LandingPage &&
		a.Original.SameSource(&a.Current)
	var flags uint64
	if same {
		flags |= 1
	}
	switch a.Source {
	case AttributionClient:
		flags |= 2
	case AttributionLost:
		flags |= 4
	}
	e.bools(flags)
	e.touch(&a.Original)
	if !same {
		e.touch(&a.Current)
	}
}

func (e *encoder) assignments(as []Assignment) {
	e.count(len(as))
	for _, a := range as {
		e.text(a.TestID)
		e.text(a.VariantID)
	}
}

// decoder reads what encoder wrote. After the first fault every read gives
// zero and err stays set.
type decoder struct {
	b []byte // what is left
	// out is the whole, with the ids' text behind it. All texts are parts of
	// it: one allocation for all of them.
	out strings.Builder
	all int // the length of the whole
	err error
}

// idsAtMost is how many ids a sealed value holds.
const idsAtMost = 3

// read begins to read b, which has to stay as it is until all is read.
func (d *decoder) read(b []byte) {
	d.b, d.all = b, len(b)
	d.out.Grow(len(b) + idsAtMost*idTextLen)
	d.out.Write(b)
}

func (d *decoder) fail() {
	d.err = errCodec
	d.b = nil
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bools() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads a length that can't be more than the bytes that are left, so
// that damage never makes a large allocation.
func (d *decoder) count() int {
	v := d.bools()
	if v > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(v)
}

func (d *decoder) text() string {
	n := d.count()
	at := d.all - len(d.b)
	d.b = d.b[n:]
	return d.out.String()[at : at+n]
}

func (d *decoder) id() string {
	if len(d.b) < idLen {
		d.fail()
		return ""
	}
	var u id
	copy(u[:], d.b)
	if !u.wellFormed() {
		d.fail()
		return ""
	}
	d.b = d.b[idLen:]
	at := d.out.Len()
	text := u.text()
	d.out.Write(text[:])
	return d.out.String()[at:]
}

func (d *decoder) touch() (t Touch) {
	t.Time = d.int()
	for _, p := range [...]*string{
		&t.UTM.Source, &t.UTM.Medium, &t.UTM.Campaign, &t.UTM.Term, &t.UTM.Content,
		&t.Ref, &t.Source, &t.Referrer, &t.LandingPage,
	} {
		*p = d.text()
	}
	if n := d.count(); n > 0 {
		t.ClickIDs = make([]ClickID, 0, min(n, MaxClickIDs))
		for i := 0; i < n && d.err == nil; i++ {
			t.ClickIDs = append(t.ClickIDs, ClickID{Name: d.text(), Value: d.text()})
		}
	}
	return t
}

func (d *decoder) attribution() (a Attribution) {
	flags := d.bools()
	a.Source = AttributionServer
	switch {
	case flags&2 != 0:
		a.Source = AttributionClient
	case flags&4 != 0:
		a.Source = AttributionLost
	}
	a.Original = d.touch()
	a.Current = a.Original
	if flags&1 == 0 {
		a.Current = d.touch()
	}
	return a
}

func (d *decoder) assignments() (as []Assignment) {
	if n := d.count(); n > 0 {
		as = make([]Assignment, 0, min(n, 16))
		for i := 0; i < n && d.err == nil; i++ {
			as = append(as, Assignment{TestID: d.text(), VariantID: d.text()})
		}
	}
	return as
}
