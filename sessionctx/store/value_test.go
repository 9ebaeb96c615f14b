package store

import (
	"bytes"
	"errors"
	"testing"
)

func TestEveryFlippedBitOfARecordIsFound(t *testing.T) {
	record := encode("v:k", []byte("some value"), 1_800_000_000_123, nil)
	for i := range len(record) * 8 {
		harmed := append([]byte{}, record...)
		harmed[i/8] ^= 1 << (i % 8)
		if _, _, err := decode("v:k", harmed, nil); !errors.Is(err, errDamaged) {
			t.Errorf("bit %d: %v", i, err)
		}
	}
	for n := range len(record) {
		if _, _, err := decode("v:k", record[:n], nil); !errors.Is(err, errDamaged) {
			t.Errorf("cut to %d: %v", n, err)
		}
	}
	if _, _, err := decode("v:other", record, nil); !errors.Is(err, errDamaged) {
		t.Errorf("under another name: %v", err)
	}
}

type panicSealer struct{ xorSealer }

func (panicSealer) Open(string, []byte) ([]byte, error) { panic("key gone") }

func TestSealerThatPanicsCostsTheValueOnly(t *testing.T) {
	record := encode("v:k", []byte("v"), 1, panicSealer{})
	if _, _, err := decode("v:k", record, panicSealer{}); !errors.Is(err, errDamaged) {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("v:k", encode("v:k", []byte("value"), 1_800_000_000_000, nil), []byte("value"), int64(5))
	f.Add("", []byte{}, []byte{}, int64(-1))
	f.Add("n:k", []byte{1, 0, 0, 0, 0}, []byte{0}, int64(0))
	f.Fuzz(func(t *testing.T, name string, record, value []byte, expiry int64) {
		for _, s := range []Sealer{nil, xorSealer{}} {
			if v, e, err := decode(name, record, s); err == nil && s == nil {
				if !bytes.Equal(encode(name, v, e, s), record) {
					t.Errorf("%q decodes to what encodes otherwise", record)
				}
			}
			expiryOf(record)
			appendNames(nil, record)
			v, e, err := decode(name, encode(name, value, expiry, s), s)
			if err != nil || e != expiry || !bytes.Equal(v, value) {
				t.Errorf("round trip: %q, %d, %v", v, e, err)
			}
		}
	})
}

func FuzzDueList(f *testing.F) {
	f.Add([]byte("\x03v:k\x03v:l"))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, list []byte) {
		n := 0
		for _, name := range appendNames(nil, list) {
			n += len(name) + 1
		}
		if n > len(list) {
			t.Errorf("%q holds more than it is long", list)
		}
	})
}
