package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// A stored record is
//
//	version (1 byte, 1) | crc32c (4) | expiry (8, Unix ms) | body
//
// with big-endian numbers. The checksum covers expiry, body and the entry's
// name, because neither engine notices flipped bytes, and because a damaged
// tree may hand out another entry's record. The body is the sealed value, or
// the value itself without a sealer. An expiry of 0 leaves the end to the
// engine (Redis).
const (
	recordVersion = 1
	recordHeader  = 1 + 4 + 8
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errDamaged = errors.New("damaged record")
)

func encode(name string, value []byte, expiry int64, s Sealer) []byte {
	return appendRecord(nil, name, value, expiry, s)
}

// appendRecord appends a record to dst.
func appendRecord(dst []byte, name string, value []byte, expiry int64, s Sealer) []byte {
	body := value
	if s != nil {
		body = s.Seal(name, value)
	}
	start := len(dst)
	dst = slices.Grow(dst, recordHeader+len(body)+len(name))
	dst = append(dst, recordVersion, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, uint64(expiry))
	dst = append(dst, body...)
	// The checksum goes on over the name, which stands behind for that long.
	sum := crc32.Checksum(append(dst, name...)[start+5:], castagnoli)
	binary.BigEndian.PutUint32(dst[start+1:], sum)
	return dst
}

// decode returns the value in a slice of its own. Its error is errDamaged.
func decode(name string, record []byte, s Sealer) (value []byte, expiry int64, err error) {
	if err := verify(name, record); err != nil {
		return nil, 0, err
	}
	body := record[recordHeader:]
	if s == nil {
		return append([]byte{}, body...), expiryOf(record), nil
	}
	value, err = open(s, name, body)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return value, expiryOf(record), nil
}

// open keeps a sealer's panic to the one value: within a transaction it would
// pass for a broken database.
func open(s Sealer, name string, body []byte) (value []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("opening seal: %v", p)
		}
	}()
	return s.Open(name, body)
}

// verify checks all but the seal.
func verify(name string, record []byte) error {
	switch {
	case len(record) < recordHeader:
		return fmt.Errorf("%w: %d bytes", errDamaged, len(record))
	case record[0] != recordVersion:
		return fmt.Errorf("%w: version %d", errDamaged, record[0])
	case binary.BigEndian.Uint32(record[1:]) != checksum(name, record):
		return fmt.Errorf("%w: checksum", errDamaged)
	}
	return nil
}

// expiryOf reads the expiry without checking anything but the length.
func expiryOf(record []byte) int64 {
	if len(record) < recordHeader {
		return 0
	}
	return int64(binary.BigEndian.Uint64(record[5:]))
}

func checksum(name string, record []byte) uint32 {
	sum := crc32.Checksum(record[5:], castagnoli)
	var part [64]byte // most names fit; a copy of the whole would be garbage
	for len(name) > 0 {
		n := copy(part[:], name)
		sum = crc32.Update(sum, castagnoli, part[:n])
		name = name[n:]
	}
	return sum
}
