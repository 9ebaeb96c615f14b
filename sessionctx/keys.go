package sessionctx

import (
	"cmp"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// PublishAhead is how long before its first use a key is in the ring,
	// in ms, so that every node has read it by then.
	PublishAhead = 10 * 60 * 1000

	ringVersion  = 1
	secretLen    = 32
	keyIDLen     = 4 // bytes; twice as many characters
	keyIDTextLen = 2 * keyIDLen
)

// Ring is the set of secrets from which ids, tokens and cookies are made. It
// is immutable and safe for concurrent use; rotating makes another one.
type Ring struct {
	keys []*key // for everything that ages; sorted by notBefore
	user []*key // for user ids alone: changes only by command
}

type key struct {
	secret ringKey

	ids        *macer
	successors *macer
	seals      [purposes]cipher.AEAD
}

// ringFile is the ring as it lies in storage.
type ringFile struct {
	Version int       `json:"version"`
	Keys    []ringKey `json:"keys"`
	User    []ringKey `json:"user_id_keys"`
}

type ringKey struct {
	// ID names the key in what is sealed with it.
	ID string `json:"id"`
	// NotBefore is when it is first used, in Unix ms.
	NotBefore int64  `json:"not_before"`
	Secret    string `json:"secret"`
}

// NewRing makes a ring of one key, in force at once.
func NewRing(random io.Reader, now int64) (*Ring, error) {
	a, err := newRingKey(random, now)
	if err != nil {
		return nil, err
	}
	b, err := newRingKey(random, now)
	if err != nil {
		return nil, err
	}
	return buildRing(ringFile{Version: ringVersion, Keys: []ringKey{a}, User: []ringKey{b}})
}

// ParseRing reads what Marshal wrote. An error names what is wrong with it,
// never a secret.
func ParseRing(b []byte) (*Ring, error) {
	var f ringFile
	if err := json.Unmarshal(b, &f); err != nil {
		// The text of a syntax error may quote the input, and the input
		// is secrets.
		return nil, errors.New("key ring is not valid JSON: it is half-written or damaged; restore it from a backup, or remove it to start with new keys (visitors become new ones)")
	}
	if f.Version > ringVersion {
		return nil, fmt.Errorf("key ring has format version %d, this build reads up to %d: upgrade this node", f.Version, ringVersion)
	}
	return buildRing(f)
}

// Marshal gives the ring as JSON. It holds secrets.
func (r *Ring) Marshal() ([]byte, error) {
	f := ringFile{Version: ringVersion}
	for _, k := range r.keys {
		f.Keys = append(f.Keys, k.secret)
	}
	for _, k := range r.user {
		f.User = append(f.User, k.secret)
	}
	return json.MarshalIndent(f, "", "\t")
}

// Rotate returns a ring with one more key, used from PublishAhead after now.
// It is the newest one even where a clock was set back since the last.
func (r *Ring) Rotate(random io.Reader, now int64) (*Ring, error) {
	k, err := newRingKey(random, max(now+PublishAhead, r.NewestKeyAt()+1))
	if err != nil {
		return nil, err
	}
	built, err := buildKey(k)
	if err != nil {
		return nil, err
	}
	return &Ring{keys: append(slices.Clone(r.keys), built), user: r.user}, nil
}

// Prune returns a ring without the keys whose successor has been in force for
// longer than keep (ms): nothing made with them can still live.
func (r *Ring) Prune(now, keep int64) *Ring {
	first := 0
	for first+1 < len(r.keys) && r.keys[first+1].secret.NotBefore+keep < now {
		first++
	}
	if first == 0 {
		return r
	}
	return &Ring{keys: slices.Clone(r.keys[first:]), user: r.user}
}

// NewestKeyAt is when the newest key of the ring comes into force, in Unix
// ms: rotation by schedule counts from it.
func (r *Ring) NewestKeyAt() int64 { return r.keys[len(r.keys)-1].secret.NotBefore }

// Equal reports whether both rings hold the same keys.
func (r *Ring) Equal(o *Ring) bool {
	same := func(a, b *key) bool { return a.secret == b.secret }
	return o != nil && slices.EqualFunc(r.keys, o.keys, same) && slices.EqualFunc(r.user, o.user, same)
}

// indexAt is the index of the key in force at ms.
func (r *Ring) indexAt(ms int64) int {
	at := 0
	for i, k := range r.keys {
		if k.secret.NotBefore <= ms {
			at = i
		}
	}
	return at
}

func (r *Ring) keyAt(ms int64) *key { return r.keys[r.indexAt(ms)] }

func (r *Ring) keyByID(id string) *key {
	for _, k := range r.keys {
		if k.secret.ID == id {
			return k
		}
	}
	return nil
}

func newRingKey(random io.Reader, notBefore int64) (ringKey, error) {
	var b [keyIDLen + secretLen]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return ringKey{}, fmt.Errorf("reading randomness for a key: %w", err)
	}
	return ringKey{
		ID:        hex.EncodeToString(b[:keyIDLen]),
		NotBefore: notBefore,
		Secret:    base64.RawURLEncoding.EncodeToString(b[keyIDLen:]),
	}, nil
}

func buildRing(f ringFile) (*Ring, error) {
	if len(f.Keys) == 0 || len(f.User) == 0 {
		return nil, errors.New("key ring holds no keys: restore it from a backup, or remove it to start with new ones")
	}
	r := &Ring{}
	for _, part := range []struct {
		from []ringKey
		to   *[]*key
	}{{f.Keys, &r.keys}, {f.User, &r.user}} {
		for i, rk := range part.from {
			k, err := buildKey(rk)
			if err != nil {
				return nil, fmt.Errorf("key %d of %d in the ring is damaged: %w", i+1, len(part.from), err)
			}
			*part.to = append(*part.to, k)
		}
		slices.SortStableFunc(*part.to, func(a, b *key) int {
			return cmp.Compare(a.secret.NotBefore, b.secret.NotBefore)
		})
	}
	return r, nil
}

// buildKey derives a key for each use, so that what one use gives away is of
// no use for another (HKDF, RFC 5869).
func buildKey(rk ringKey) (*key, error) {
	secret, err := base64.RawURLEncoding.DecodeString(rk.Secret)
	if err != nil || len(secret) != secretLen || len(rk.ID) != keyIDTextLen {
		// Nothing is quoted: in a ring edited by hand a secret may stand
		// where the id belongs.
		return nil, fmt.Errorf("want %d characters of id and %d bytes of secret", keyIDTextLen, secretLen)
	}
	derive := func(use string, n int) []byte {
		b, err := hkdf.Key(sha256.New, secret, nil, "session_context "+use, n)
		if err != nil {
			panic(err) // only for lengths beyond 255 hashes
		}
		return b
	}
	k := &key{
		secret:     rk,
		ids:        newMacer(derive("ids", 32)),
		successors: newMacer(derive("successors", 32)),
	}
	for p := range k.seals {
		k.seals[p] = newSeal(derive("seal "+purposeNames[p], chacha20poly1305.KeySize))
	}
	return k, nil
}
