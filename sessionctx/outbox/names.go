package outbox

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	kindOpen    = "open"
	kindInvalid = "invalid"
	kindSealed  = "sealed"
	kindDead    = "dead"
	kindReason  = "reason"
	kindTemp    = "tmp"
)

const sequenceDigits = 16

// fileName is the inverse of parseFileName.
func fileName(name, kind string, rows int) string {
	if kind == kindSealed || kind == kindDead {
		return name + "." + strconv.Itoa(rows) + "." + kind
	}
	return name + "." + kind
}

// parseFileName tells what a file in a datasource's directory is. Row counts
// stand in the names so that opening 2 GiB costs one directory listing.
func parseFileName(file string) (name, kind string, rows int, ok bool) {
	dot := strings.LastIndexByte(file, '.')
	if dot < 0 {
		return "", "", 0, false
	}
	name, kind = file[:dot], file[dot+1:]
	switch kind {
	case kindTemp:
		return name, kind, 0, true
	case kindOpen, kindInvalid, kindReason:
	case kindSealed, kindDead:
		dot = strings.LastIndexByte(name, '.')
		if dot < 0 {
			return "", "", 0, false
		}
		n, err := strconv.Atoi(name[dot+1:])
		if err != nil || n < 0 {
			return "", "", 0, false
		}
		name, rows = name[:dot], n
	default:
		return "", "", 0, false
	}
	_, ok = sequenceOf(name)
	return name, kind, rows, ok
}

// damagedSuffix marks the dead letter that holds a segment's damaged lines.
const damagedSuffix = ".damaged"

func segmentName(sequence int64) string {
	return fmt.Sprintf("%0*d", sequenceDigits, sequence)
}

func sequenceOf(name string) (int64, bool) {
	name = strings.TrimSuffix(name, damagedSuffix)
	if len(name) < sequenceDigits || strings.Trim(name[sequenceDigits:], "ab") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(name[:sequenceDigits], 10, 63)
	return int64(n), err == nil
}

// bornAt is a segment's age by its name: no file need be read for it.
func bornAt(name string) time.Time {
	n, _ := sequenceOf(name)
	return time.UnixMicro(n)
}

// validDatasource keeps names to what is a directory name everywhere and a
// Tinybird datasource name: letters, digits, underscore, no digit first.
func validDatasource(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return true
}
