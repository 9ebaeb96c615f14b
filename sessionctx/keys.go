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
	ringVersion  = 1
	secretLen    = 32
	keyIDLen     = 4 // bytes; twice as many characters
	keyIDTextLen = 2 * keyIDLen
	maxNotBefore = 1<<48 - 1 // ms, as many as a session id has room for
)

// Ring is the set of secrets from which ids, tokens and cookies are made. It
// is immutable and safe for concurrent use; rotating makes another one.
type Ring struct {
	keys []*key // for everything that ages; sorted by NotBefore
	user []*key // for user ids alone: changes only by command; likewise
}

type key struct {
	secret ringKey

	ids        *macer
	successors *macer
	clicks     *macer
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
		return nil, errors.New("key ring is not valid JSON: it is half-written or damaged; restore it from a backup, or stop all nodes and remove it to start with new keys (visitors become new ones)")
	}
	if f.Version > ringVersion {
		return nil, fmt.Errorf("key ring has format version %d, this build reads up to %d: upgrade this node", f.Version, ringVersion)
	}
	if f.Version < 1 {
		return nil, fmt.Errorf("key ring has format version %d, versions begin with 1: it is damaged, or another program's file; restore it from a backup", f.Version)
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

// Equal reports whether both rings hold the same keys.
func (r *Ring) Equal(o *Ring) bool {
	same := func(a, b *key) bool { return a.secret == b.secret }
	return o != nil && slices.EqualFunc(r.keys, o.keys, same) && slices.EqualFunc(r.user, o.user, same)
}

// inForce is the index of the key in force at ms, of keys sorted by NotBefore.
// What is asked for is nearly always the newest or the one before.
func inForce(keys []*key, ms int64) int {
	at := len(keys) - 1
	for at > 0 && keys[at].secret.NotBefore > ms {
		at--
	}
	return at
}

func (r *Ring) keyAt(ms int64) *key { return r.keys[inForce(r.keys, ms)] }

func (r *Ring) keyByID(id string) *key {
	for _, k := range slices.Backward(r.keys) {
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
		return nil, errors.New("key ring holds no keys: restore it from a backup, or stop all nodes and remove it to start with new ones")
	}
	keys, err := buildKeys(f.Keys)
	if err != nil {
		return nil, err
	}
	user, err := buildKeys(f.User)
	if err != nil {
		return nil, fmt.Errorf("user_id_keys: %w", err)
	}
	return &Ring{keys: keys, user: user}, nil
}

func buildKeys(from []ringKey) ([]*key, error) {
	keys := make([]*key, 0, len(from))
	taken := make(map[string]bool, len(from))
	for i, rk := range from {
		k, err := buildKey(rk)
		if err != nil {
			return nil, fmt.Errorf("key %d of %d in the ring is damaged: %w; restore the ring from a backup", i+1, len(from), err)
		}
		if taken[rk.ID] {
			// Of two, only one could open what is sealed with that id.
			return nil, fmt.Errorf("key %d of %d in the ring has the id of another; restore the ring from a backup", i+1, len(from))
		}
		taken[rk.ID] = true
		keys = append(keys, k)
	}
	return sortKeys(keys), nil
}

func sortKeys(keys []*key) []*key {
	slices.SortStableFunc(keys, func(a, b *key) int {
		return cmp.Compare(a.secret.NotBefore, b.secret.NotBefore)
	})
	return keys
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
	if rk.NotBefore < 0 || rk.NotBefore > maxNotBefore {
		return nil, fmt.Errorf("not_before %d is no Unix time in ms", rk.NotBefore)
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
		clicks:     newMacer(derive("clicks", 32)),
	}
	for p := range k.seals {
		k.seals[p] = newSeal(derive("seal "+purposeNames[p], chacha20poly1305.KeySize))
	}
	return k, nil
}
