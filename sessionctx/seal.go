package sessionctx

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
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
	purposes
)

var purposeNames = [purposes]string{"token", "user", "session", "attribution", "choice"}

// maxSealed is the longest sealed value that is opened, in bytes. Longer ones
// can't be ours: cookies stay below 3,800.
const maxSealed = 8192

var errSeal = errors.New("sealed value does not verify")

// seal encrypts and authenticates plain with the key in force at now. The
// value begins with the key's id: "1a2b3c4d.…". It is safe in a cookie and in
// JSON.
func (r *Ring) seal(p purpose, plain []byte, now int64) (string, error) {
	k := r.keyAt(now)
	s, err := k.seals[p].Encode(purposeNames[p], plain)
	if err != nil {
		return "", fmt.Errorf("sealing a %s: %w", purposeNames[p], err)
	}
	return k.secret.ID + "." + s, nil
}

// open is seal's inverse. Its error tells nothing about why: what doesn't
// verify is not ours.
func (r *Ring) open(p purpose, sealed string) ([]byte, error) {
	if len(sealed) <= keyIDTextLen || len(sealed) > maxSealed || sealed[keyIDTextLen] != '.' {
		return nil, errSeal
	}
	k := r.keyByID(sealed[:keyIDTextLen])
	if k == nil {
		return nil, errSeal
	}
	if !canonicalSeal(sealed[keyIDTextLen+1:]) {
		return nil, errSeal
	}
	var plain []byte
	if k.seals[p].Decode(purposeNames[p], sealed[keyIDTextLen+1:], &plain) != nil {
		return nil, errSeal
	}
	return plain, nil
}

// canonicalSeal reports whether s is base64 in the one spelling that we write.
// The decoder skips line breaks and the last digit's unused bits, and no
// altered value shall open.
func canonicalSeal(s string) bool {
	if len(s)%4 != 0 || strings.ContainsAny(s, "\r\n") {
		return false
	}
	_, err := base64.URLEncoding.Strict().DecodeString(s[max(0, len(s)-4):])
	return err == nil
}

// SealState gives the session as it is kept in the store: bytes, not text.
// It never leaves the servers, so it is sealed by AES-GCM alone, which costs a
// tenth of what a browser's value does. A random nonce of 96 bits is safe for
// 2³² states a key (NIST SP 800-38D §8.3); keys last a month.
func (r *Ring) SealState(s *Session, now int64) []byte {
	k := r.keyAt(now)
	plain := s.encode(true)
	b := make([]byte, 0, keyIDTextLen+len(plain)+k.states.Overhead())
	b = append(b, k.secret.ID...)
	return k.states.Seal(b, nil, plain, nil)
}

// OpenState is SealState's inverse. ErrInvalidSession if it isn't ours.
func (r *Ring) OpenState(sealed []byte) (*Session, error) {
	if len(sealed) < keyIDTextLen {
		return nil, ErrInvalidSession
	}
	k := r.keyByID(string(sealed[:keyIDTextLen]))
	if k == nil {
		return nil, ErrInvalidSession
	}
	plain, err := k.states.Open(nil, nil, sealed[keyIDTextLen:], nil)
	if err != nil {
		return nil, ErrInvalidSession
	}
	s, err := decodeSession(plain)
	if err != nil {
		return nil, ErrInvalidSession
	}
	return s, nil
}
