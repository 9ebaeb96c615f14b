package sessionctx

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

// purpose is what a sealed value may be used for. Each has keys of its own:
// a cookie can't be replayed as a token, nor the other way round.
type purpose int

const (
	sealToken purpose = iota
	sealUser
	sealSession
	sealAttribution
	sealChoice
	sealState   // for the store; never seen by a browser
	sealConsent // likewise
	sealClick   // likewise
	purposes
)

var purposeNames = [purposes]string{"token", "user", "session", "attribution", "choice", "state", "consent", "click"}

// maxSealed is the longest sealed value that is opened, in bytes. Longer ones
// can't be ours: cookies stay below 2,500.
const maxSealed = 8192

var errSeal = errors.New("sealed value does not verify")

// newSeal makes the cipher of one purpose. XChaCha20-Poly1305 authenticates
// what it encrypts, and its nonce of 24 bytes can be drawn at random for as
// many values as a key will ever seal (draft-irtf-cfrg-xchacha §3.1); the 12
// of AES-GCM are good for 2³² only, which a busy month of pages reaches.
func newSeal(key []byte) cipher.AEAD {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic(err) // only for keys of another length
	}
	return aead
}

// sealOverhead is how many bytes a value grows by when it is sealed, before it
// is spelled in base64.
const sealOverhead = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead

// spelling is the one way in which sealed values are written: URL-safe, since
// that is safe in cookies and JSON too. It is strict: no altered value shall
// open, not even one that is altered where it doesn't count.
var spelling = base64.RawURLEncoding.Strict()

// sealedLen is the length of the sealed form of n bytes.
func sealedLen(n int) int { return keyIDTextLen + 1 + spelling.EncodedLen(n+sealOverhead) }

// bench is where a value is put together and sealed. Benches are used again:
// each page seals several values.
type bench struct {
	encoder
	raw []byte
}

var benches = sync.Pool{New: func() any {
	return &bench{encoder: encoder{b: make([]byte, 0, 1024)}, raw: make([]byte, 0, 1024)}
}}

// takeBench returns an empty bench; give it back with putBench.
func takeBench() *bench {
	s := benches.Get().(*bench)
	s.b = s.b[:0]
	return s
}

func putBench(s *bench) { benches.Put(s) }

// seal encrypts and authenticates what the bench holds with the key in force
// at now, and appends that. The value begins with the key's id: "1a2b3c4d.…".
func (s *bench) seal(dst []byte, r *Ring, p purpose, now int64) []byte {
	k := r.keyAt(now)
	s.raw = appendSealed(s.raw[:0], k.seals[p], s.b)
	dst = append(dst, k.secret.ID...)
	dst = append(dst, '.')
	return spelling.AppendEncode(dst, s.raw)
}

// appendSealed appends a nonce and the sealed form of plain.
func appendSealed(dst []byte, aead cipher.AEAD, plain []byte) []byte {
	var nonce [chacha20poly1305.NonceSizeX]byte
	dst = append(dst, nonce[:]...)
	n := dst[len(dst)-len(nonce):]
	rand.Read(n) // never fails
	return aead.Seal(dst, n, plain, nil)
}

// openSealed is appendSealed's inverse; it appends to dst.
func openSealed(dst []byte, aead cipher.AEAD, sealed []byte) ([]byte, error) {
	if len(sealed) < sealOverhead {
		return nil, errSeal
	}
	return aead.Open(dst, sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:], nil)
}

// open is seal's inverse; what it returns is the bench's. Its error tells
// nothing about why: what doesn't verify is not ours.
func (s *bench) open(r *Ring, p purpose, sealed string) (plain []byte, err error) {
	if len(sealed) <= keyIDTextLen || len(sealed) > maxSealed || sealed[keyIDTextLen] != '.' {
		return nil, errSeal
	}
	k := r.keyByID(sealed[:keyIDTextLen])
	if k == nil {
		return nil, errSeal
	}
	text := sealed[keyIDTextLen+1:]
	if strings.IndexByte(text, '\r') >= 0 || strings.IndexByte(text, '\n') >= 0 {
		return nil, errSeal // the decoder skips them
	}
	s.b = append(s.b[:0], text...)
	if s.raw, err = spelling.AppendDecode(s.raw[:0], s.b); err != nil {
		return nil, errSeal
	}
	if plain, err = openSealed(s.b[:0], k.seals[p], s.raw); err != nil {
		return nil, errSeal // the bench keeps its place
	}
	s.b = plain
	return plain, nil
}

// stored gives what the bench holds as it is kept in the store: bytes, not text.
func (s *bench) stored(r *Ring, p purpose, now int64) []byte {
	k := r.keyAt(now)
	b := make([]byte, 0, keyIDTextLen+len(s.b)+sealOverhead)
	return appendSealed(append(b, k.secret.ID...), k.seals[p], s.b)
}

// openStored is stored's inverse; what it returns is the bench's.
func (s *bench) openStored(r *Ring, p purpose, sealed []byte) ([]byte, error) {
	if len(sealed) < keyIDTextLen {
		return nil, errSeal
	}
	k := r.keyByID(string(sealed[:keyIDTextLen]))
	if k == nil {
		return nil, errSeal
	}
	return openSealed(s.b, k.seals[p], sealed[keyIDTextLen:])
}

// SealState gives the session as it is kept in the store: bytes, not text.
func (r *Ring) SealState(s *Session, now int64) []byte {
	w := takeBench()
	defer putBench(w)
	w.session(s, true)
	return w.stored(r, sealState, now)
}

// OpenState is SealState's inverse. ErrInvalidSession if it isn't ours.
func (r *Ring) OpenState(sealed []byte) (*Session, error) {
	w := takeBench()
	defer putBench(w)
	plain, err := w.openStored(r, sealState, sealed)
	if err != nil {
		return nil, ErrInvalidSession
	}
	s, err := decodeSession(plain)
	if err != nil {
		return nil, ErrInvalidSession
	}
	return s, nil
}
