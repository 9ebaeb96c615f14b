package outbox

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"
)

// The format on disk, version 1.
//
// A datasource's directory holds, told apart by their names:
//
//	N.open          the segment that is being written, one at most
//	N.ROWS.sealed   one request body each, sent in the order of their names
//	N.ROWS.dead     dead letters: a segment out of the queue, or damaged lines
//	N.reason        why N is dead: {"kind":…,"reason":…,"at":…}
//	*.tmp           half written, removed at open
//
// N is 16 digits, the microsecond of the segment's birth made strictly rising,
// and a letter for each halving: "a" is the older half, "b" the younger. While
// a sealed segment stands, its halves (names that begin with its name) are not
// valid and are removed at open: they are sent only after it is gone.
//
// A mirror's directory, mirror.NAME beside those of the datasources, is the same
// again; its sealed files are second names of the outbox's. In it, marks says up
// to which N each datasource was handed over.
//
// A segment is text. The first line is the header:
//
//	session-outbox/1 CRC {"datasource":"events_v1","sequence":N,"created":"…"}
//
// with the CRC over all of the line but itself and the space after it. Each
// further line is a row:
//
//	CRC SP JSON LF
//
// with the CRC over the JSON. CRC is CRC-32C in eight lower-case hex digits.
// JSON holds no LF, so damage costs the line that it hit, and the next LF is a
// new start. Every later version keeps the form of the header line, so that a
// program can tell "newer than me" from "damaged".
const (
	formatMagic   = "session-outbox/"
	formatVersion = 1

	// recordOverhead is what a row costs on disk beside its JSON.
	recordOverhead = 8 + 1 + 1
)

// ErrVersion: a segment was written by a newer version of this program.
var ErrVersion = errors.New("outbox format is newer than this program")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendCRC(dst []byte, crc uint32) []byte {
	const digits = "0123456789abcdef"
	for shift := 28; shift >= 0; shift -= 4 {
		dst = append(dst, digits[crc>>shift&0xf])
	}
	return dst
}

func appendRecord(dst, row []byte) []byte {
	dst = appendCRC(dst, crc32.Checksum(row, castagnoli))
	dst = append(dst, ' ')
	dst = append(dst, row...)
	return append(dst, '\n')
}

// parseRecord reads a line without its LF. The result is a part of the line.
func parseRecord(line []byte) (row []byte, ok bool) {
	if len(line) < recordOverhead || line[8] != ' ' {
		return nil, false
	}
	want, ok := parseCRC(line[:8])
	row = line[9:]
	return row, ok && want == crc32.Checksum(row, castagnoli)
}

func parseCRC(digits []byte) (uint32, bool) {
	for _, c := range digits {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return 0, false
		}
	}
	var b [4]byte
	if _, err := hex.Decode(b[:], digits); err != nil {
		return 0, false
	}
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), true
}

type header struct {
	Datasource string    `json:"datasource"`
	Sequence   int64     `json:"sequence"`
	Created    time.Time `json:"created"`
}

func appendHeader(dst []byte, h header) []byte {
	body, err := json.Marshal(h)
	if err != nil { // a time outside years 0…9999; the header must not stop a write
		body = []byte("{}")
	}
	prefix := formatMagic + strconv.Itoa(formatVersion) + " "
	crc := crc32.Update(crc32.Checksum([]byte(prefix), castagnoli), castagnoli, body)
	dst = append(dst, prefix...)
	dst = appendCRC(dst, crc)
	dst = append(dst, ' ')
	dst = append(dst, body...)
	return append(dst, '\n')
}

// parseHeader reads a header line without its LF; ok only if its CRC holds,
// whatever its version.
func parseHeader(line []byte) (h header, version int, ok bool) {
	rest, found := bytes.CutPrefix(line, []byte(formatMagic))
	if !found {
		return h, 0, false
	}
	digits, rest, found := bytes.Cut(rest, []byte(" "))
	if !found || len(rest) < 9 || rest[8] != ' ' {
		return h, 0, false
	}
	version, err := strconv.Atoi(string(digits))
	want, hexOK := parseCRC(rest[:8])
	body := rest[9:]
	prefix := line[:len(formatMagic)+len(digits)+1]
	got := crc32.Update(crc32.Checksum(prefix, castagnoli), castagnoli, body)
	if err != nil || !hexOK || got != want {
		return h, 0, false
	}
	if version == formatVersion {
		_ = json.Unmarshal(body, &h) // the CRC holds: what is missing is only told, never needed
	}
	return h, version, true
}

func checkVersion(version int) error {
	if version <= formatVersion {
		return nil
	}
	return fmt.Errorf("%w: version %d, this program reads up to %d; deliver with the program that wrote it, or move the file elsewhere", ErrVersion, version, formatVersion)
}

// damage is a line whose CRC does not hold, where it stood and what it says.
type damage struct {
	offset int64
	line   []byte
}

// scan is what a segment's bytes hold. Rows and lines are parts of the input.
type scan struct {
	header  header
	rows    [][]byte
	damaged []damage
	whole   int64  // bytes up to and with the last LF, or with a tail that is a row
	tail    []byte // what follows: a write that was cut, or a damaged last line
}

// scanSegment reads a segment's bytes. It fails only for a newer version.
func scanSegment(data []byte) (scan, error) {
	var s scan
	for first := true; ; first = false {
		offset := s.whole
		rest := data[offset:]
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			s.readTail(rest)
			return s, nil
		}
		line := rest[:end]
		s.whole += int64(end) + 1
		if first {
			h, version, ok := parseHeader(line)
			if err := checkVersion(version); ok && err != nil {
				return scan{}, err
			}
			if ok {
				s.header = h
				continue
			}
		}
		if row, ok := parseRecord(line); ok {
			s.rows = append(s.rows, row)
		} else if rows := salvage(line); len(rows) > 0 {
			s.rows = append(s.rows, rows...)
		} else {
			s.damaged = append(s.damaged, damage{offset, line})
		}
	}
}

// readTail looks at bytes without an LF: a whole row whose LF was cut off or
// flipped may have been acknowledged, so it is kept.
func (s *scan) readTail(tail []byte) {
	for _, line := range [][]byte{tail, tail[:max(0, len(tail)-1)]} {
		if row, ok := parseRecord(line); ok {
			s.rows = append(s.rows, row)
			s.whole += int64(len(tail))
			return
		}
	}
	s.tail = tail
}

// salvage undoes the one flip that would cost two lines: an LF that became
// something else and glued two good lines. The row it finds must be valid JSON,
// so text inside a row can't be made to pass for one.
func salvage(line []byte) [][]byte {
	for from := 0; ; {
		at := bytes.Index(line[from:], []byte(" {"))
		if at < 0 {
			return nil
		}
		at += from
		from = at + 1
		start := at - 8
		if start < 1 {
			continue
		}
		second, ok := parseRecord(line[start:])
		if !ok || !json.Valid(second) {
			continue
		}
		glued := line[:start-1]
		if first, ok := parseRecord(glued); ok {
			return [][]byte{first, second}
		}
		if _, version, ok := parseHeader(glued); ok && version == formatVersion {
			return [][]byte{second}
		}
	}
}

// joinRows makes a request body, each row and an LF, in the place of the file
// that the rows are parts of, and in their order: they are used up by it. A
// record is longer than its line in the body, so no row is written over before
// it has been moved.
func joinRows(rows [][]byte) []byte {
	if len(rows) == 0 {
		return nil
	}
	body := rows[0][:0]
	for _, row := range rows {
		body = append(body, row...)
		body = append(body, '\n')
	}
	return body
}
