package sessionctx

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// VisitorKey is what visitors without cookies are told apart by for a day: a
// MAC of workspace, address and user agent under that day's key. Whoever
// shares these shares it. So it is never an id, proves nothing by itself, is
// no subject of consent or erasure, and stands in no cookie and no log.
type VisitorKey [sha256.Size]byte

// identifies reports whether the cookies say who the visitor is.
func (c *Carried) identifies() bool { return c.User != nil || c.Session != nil }

// Day is the value of the column visitor_day, and what A/B tests bucket by.
func (k *VisitorKey) Day() string { return hexText(k[:8]) }

// Index is the name under which the store has the sessions of the key. It
// tells nothing about Day: who reads the store can't read the rows by it.
func (k *VisitorKey) Index() string { return hexText(k[16:]) }

// KeysVisitor reports whether a visitor key may be computed for a request with
// that consent: where the campaign wants it, no cookie says who it is, and the
// visitor has refused in no way; and where the address is the visitor's. Signals
// end it whether or not the campaign takes them for a refusal of cookies. A yes whose cookies have not come yet is
// a visitor who was without them up to now.
func KeysVisitor(c *Campaign, f *Facts, consent *Consent, carried *Carried) bool {
	if !c.VisitorKeys || f.GPC || f.DNT || f.Fetch.AnonymousIP || !f.ClientIP.IsValid() {
		return false
	}
	switch {
	case !consent.Analytics:
		return consent.Source == ConsentPending
	case !c.Cookies:
		return true
	}
	return (consent.Source == ConsentChoice || consent.Source == ConsentReference) && !carried.identifies()
}

// DayKeys are the keys that visitor keys are made with, one for each UTC day.
// They are immutable and safe for concurrent use.
type DayKeys struct {
	days []dayKey // by day
}

type dayKey struct {
	day    int64 // since 1970-01-01
	secret string
	mac    *macer
}

// dayKeysFile is how they lie in storage.
type dayKeysFile struct {
	Version int          `json:"version"`
	Keys    []dayKeyFile `json:"keys"`
}

type dayKeyFile struct {
	Day    string `json:"day"` // 2006-01-02, UTC
	Secret string `json:"secret"`
}

const (
	dayKeysVersion = 1
	msPerDay       = 24 * 60 * 60 * 1000
)

// ErrDayKeysDamaged is an object in storage that holds no day keys. Unlike a
// key ring it can be replaced without harm to anything but one day's figures.
var ErrDayKeysDamaged = errors.New("day keys are damaged")

func dayOf(ms int64) int64 { return ms / msPerDay }

// ParseDayKeys reads what Marshal wrote. An error never quotes a secret.
func ParseDayKeys(b []byte) (*DayKeys, error) {
	var f dayKeysFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%w: not valid JSON", ErrDayKeysDamaged)
	}
	if f.Version > dayKeysVersion {
		return nil, fmt.Errorf("day keys have format version %d, this build reads up to %d: upgrade this node", f.Version, dayKeysVersion)
	}
	k := &DayKeys{}
	for i, part := range f.Keys {
		day, err := time.Parse(time.DateOnly, part.Day)
		secret, serr := base64.RawURLEncoding.Strict().DecodeString(part.Secret)
		if err != nil || serr != nil || len(secret) != secretLen || day.Unix() < 0 {
			return nil, fmt.Errorf("%w: key %d of %d has no day, or no secret of %d bytes", ErrDayKeysDamaged, i+1, len(f.Keys), secretLen)
		}
		n := dayOf(day.UnixMilli())
		if k.at(n) != nil {
			return nil, fmt.Errorf("%w: two keys of one day", ErrDayKeysDamaged)
		}
		k.days = append(k.days, dayKey{n, part.Secret, newMacer(secret)})
	}
	k.sort()
	return k, nil
}

// Marshal gives the keys as JSON. It holds secrets.
func (k *DayKeys) Marshal() ([]byte, error) {
	f := dayKeysFile{Version: dayKeysVersion, Keys: []dayKeyFile{}}
	for _, d := range k.days {
		f.Keys = append(f.Keys, dayKeyFile{time.UnixMilli(d.day * msPerDay).UTC().Format(time.DateOnly), d.secret})
	}
	return json.MarshalIndent(f, "", "\t")
}

// Tend gives the keys that there should be at now (Unix ms): today's and
// tomorrow's, made if they are missing, so that every node has read a key
// before its day begins; yesterday's, if there is one; and none that is older.
// It returns k itself if these are they; a nil k is one without keys. Its
// errors are the random source's.
func (k *DayKeys) Tend(random io.Reader, now int64) (*DayKeys, error) {
	out := k.Prune(now)
	for day := dayOf(now); day <= dayOf(now)+1; day++ {
		if out.at(day) != nil {
			continue
		}
		secret := make([]byte, secretLen)
		if _, err := io.ReadFull(random, secret); err != nil {
			return nil, fmt.Errorf("reading randomness for a day key: %w", err)
		}
		next := &DayKeys{}
		if out != nil {
			next.days = slices.Clone(out.days)
		}
		next.days = append(next.days, dayKey{day, base64.RawURLEncoding.EncodeToString(secret), newMacer(secret)})
		next.sort()
		out = next
	}
	return out, nil
}

// Prune gives the keys without those of days before yesterday; k itself if it
// has none.
func (k *DayKeys) Prune(now int64) *DayKeys {
	if k == nil || len(k.days) == 0 || k.days[0].day >= dayOf(now)-1 {
		return k
	}
	at := slices.IndexFunc(k.days, func(d dayKey) bool { return d.day >= dayOf(now)-1 })
	if at < 0 {
		return &DayKeys{}
	}
	return &DayKeys{days: slices.Clone(k.days[at:])}
}

// Equal reports whether both hold the same keys.
func (k *DayKeys) Equal(o *DayKeys) bool {
	if k == nil || o == nil {
		return k == o
	}
	return slices.EqualFunc(k.days, o.days, func(a, b dayKey) bool { return a.day == b.day && a.secret == b.secret })
}

func (k *DayKeys) sort() {
	slices.SortFunc(k.days, func(a, b dayKey) int { return cmp.Compare(a.day, b.day) })
}

func (k *DayKeys) at(day int64) *dayKey {
	if k == nil {
		return nil
	}
	for i := range k.days {
		if k.days[i].day == day {
			return &k.days[i]
		}
	}
	return nil
}

// VisitorKey is the key of the day of ms (Unix ms) for the visitor that f
// tells of. False: there is no key of that day, or no address.
func (k *DayKeys) VisitorKey(ms int64, workspace string, f *Facts) (VisitorKey, bool) {
	d := k.at(dayOf(ms))
	if d == nil || !f.ClientIP.IsValid() {
		return VisitorKey{}, false
	}
	// An IPv6 client chooses addresses within its /64 as it likes.
	var address [8]byte
	n := 8
	if ip := f.ClientIP.Unmap(); ip.Is4() {
		n = 4
		a := ip.As4()
		copy(address[:], a[:])
	} else {
		a := ip.As16()
		copy(address[:], a[:8])
	}
	return d.mac.sum(address[:n], workspace, f.UserAgent), true
}
