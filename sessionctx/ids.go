package sessionctx

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"
)

// Ids are UUIDs of version 8 (RFC 9562 §5.8) that prove themselves: of the
// 122 bits which version and variant leave free, the last 48 are a MAC.
//
//	user id     74 random bits, then the MAC over them and the workspace
//	session id  48 bits of Unix ms, 26 random bits, then the MAC over them,
//	            the campaign and the user
//
// So a made-up id is refused without a look-up, by any node that has the key
// ring. They are identifiers, not secrets: they stand in pages, rows and logs.
// 48 bits suffice because a guess can only be tried online, against a rate
// limit; constant-time comparison keeps timing from helping it.
const (
	idHeadLen = 10 // bytes before the MAC: time or random bits, version, variant
	idMACLen  = 6
	idLen     = idHeadLen + idMACLen
	idTextLen = 36
)

// ClockSkew is how far from the future a session id may be, in ms: nodes'
// clocks differ.
const ClockSkew = 5 * 60 * 1000

type id [idLen]byte

// parseID reads the canonical lower-case text form of a version 8 UUID.
func parseID(s string) (u id, ok bool) {
	if len(s) != idTextLen || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, false
	}
	at := 0
	for i := 0; i < idTextLen; i += 2 {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			i++
		}
		hi, lo := unhex[s[i]], unhex[s[i+1]]
		if hi|lo > 15 {
			return u, false
		}
		u[at] = hi<<4 | lo
		at++
	}
	return u, u.wellFormed()
}

// wellFormed reports whether version and variant are those of our ids.
func (u *id) wellFormed() bool { return u[6]>>4 == 8 && u[8]>>6 == 2 }

// IsID reports whether the text has the form of our ids: what hasn't is worth
// no look-up.
func IsID(s string) bool {
	_, ok := parseID(s)
	return ok
}

// unhex is the value of a lower-case hexadecimal digit, 255 for others: one id
// has one spelling.
var unhex = func() (table [256]byte) {
	for i := range table {
		table[i] = 255
	}
	for i := range byte(16) {
		table[hexDigits[i]] = i
	}
	return table
}()

func (u id) String() string {
	b := u.text()
	return string(b[:])
}

func (u *id) text() (b [idTextLen]byte) {
	hex.Encode(b[0:8], u[0:4])
	b[8] = '-'
	hex.Encode(b[9:13], u[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], u[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], u[8:10])
	b[23] = '-'
	hex.Encode(b[24:36], u[10:16])
	return b
}

// ms is the Unix time in ms that a session id starts with.
func (u id) ms() int64 {
	var b [8]byte
	copy(b[2:], u[:6])
	return int64(binary.BigEndian.Uint64(b[:]))
}

func (u *id) setVersion() {
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
}

// macer computes MACs under one key without an allocation a call.
type macer struct {
	pool sync.Pool
}

func newMacer(key []byte) *macer {
	m := &macer{}
	m.pool.New = func() any { return &macState{h: hmac.New(sha256.New, key)} }
	return m
}

type macState struct {
	h   hash.Hash
	buf []byte
	sum [sha256.Size]byte
}

// sum is HMAC-SHA256 over the parts, each preceded by its length, so that no
// two lists of parts are the same input.
func (m *macer) sum(head []byte, parts ...string) [sha256.Size]byte {
	st := m.pool.Get().(*macState)
	b := binary.AppendUvarint(st.buf[:0], uint64(len(head)))
	b = append(b, head...)
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	st.buf = b
	st.h.Reset()
	st.h.Write(b)
	st.h.Sum(st.sum[:0])
	sum := st.sum
	m.pool.Put(st)
	return sum
}

func (m *macer) sign(u *id, parts ...string) {
	sum := m.sum(u[:idHeadLen], parts...)
	copy(u[idHeadLen:], sum[:idMACLen])
}

func (m *macer) verify(u *id, parts ...string) bool {
	sum := m.sum(u[:idHeadLen], parts...)
	return hmac.Equal(u[idHeadLen:], sum[:idMACLen])
}

// Domains of the MACs; a user id can never pass as a session id.
const (
	macUser    = "user"
	macSession = "session"
)

// NewUserID makes a user id of the workspace with the key in force at now
// (Unix ms). Its error is the random source's.
func (r *Ring) NewUserID(random io.Reader, now int64, workspace string) (string, error) {
	var u id
	if _, err := io.ReadFull(random, u[:idHeadLen]); err != nil {
		return "", fmt.Errorf("reading randomness for a user id: %w", err)
	}
	u.setVersion()
	r.user[inForce(r.user, now)].ids.sign(&u, macUser, workspace)
	return u.String(), nil
}

// VerifyUserID reports whether the id is one that this ring made for the
// workspace. It makes no look-up. A user id doesn't tell when it was made, so
// each user-id key is tried, the newest first; there are MaxUserKeys at most.
func (r *Ring) VerifyUserID(s, workspace string) bool {
	u, ok := parseID(s)
	if !ok {
		return false
	}
	for i := len(r.user) - 1; i >= 0; i-- {
		if r.user[i].ids.verify(&u, macUser, workspace) {
			return true
		}
	}
	return false
}

// NewSessionID makes the id of a session that begins at ms (Unix ms).
func (r *Ring) NewSessionID(random io.Reader, ms int64, campaign CampaignRef, userID string) (string, error) {
	u := sessionIDAt(ms)
	if _, err := io.ReadFull(random, u[6:idHeadLen]); err != nil {
		return "", fmt.Errorf("reading randomness for a session id: %w", err)
	}
	u.setVersion()
	r.keyAt(ms).ids.sign(&u, macSession, campaign.ID, string(campaign.Environment), userID)
	return u.String(), nil
}

// DeriveSessionID makes the id that every node finds alike for the session of
// one slot of a line: its time is the slot's beginning ms, its random bits are
// a MAC of the line's first session and the slot, which is of duration ms.
func (r *Ring) DeriveSessionID(originalID string, ms, duration int64, campaign CampaignRef, userID string) string {
	key := r.keyAt(ms)
	u := sessionIDAt(ms)
	var slot [14]byte
	copy(slot[:6], u[:6])
	binary.BigEndian.PutUint64(slot[6:], uint64(duration))
	sum := key.successors.sum(slot[:], originalID, campaign.ID, string(campaign.Environment), userID)
	copy(u[6:idHeadLen], sum[:])
	u.setVersion()
	key.ids.sign(&u, macSession, campaign.ID, string(campaign.Environment), userID)
	return u.String()
}

func sessionIDAt(ms int64) (u id) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(ms))
	copy(u[:6], b[2:])
	return u
}

// VerifySessionID reports whether the id is one that this ring made for the
// campaign and user, and not one from more than ClockSkew after now. ms is
// when the session began. The keys tried are the one in force at ms and its
// neighbours, since nodes learn of a new key at different moments.
func (r *Ring) VerifySessionID(s string, campaign CampaignRef, userID string, now int64) (ms int64, ok bool) {
	u, ok := parseID(s)
	if !ok {
		return 0, false
	}
	ms = u.ms()
	if ms > now+ClockSkew {
		return 0, false
	}
	at := inForce(r.keys, ms)
	for _, i := range [3]int{at, at + 1, at - 1} {
		if i < 0 || i >= len(r.keys) {
			continue
		}
		if r.keys[i].ids.verify(&u, macSession, campaign.ID, string(campaign.Environment), userID) {
			return ms, true
		}
	}
	return 0, false
}

// WithoutMAC is an id cut before the part that proves it: enough to find it
// in rows, too little to use it.
func WithoutMAC(id string) string {
	if len(id) != idTextLen {
		return ""
	}
	return id[:idTextLen-2*idMACLen-1]
}
