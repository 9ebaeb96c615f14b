package visitor

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// mmdbWriter makes small MaxMind DB files, after the public format
// specification: a binary search tree of 24-bit records over IPv6 addresses,
// sixteen zero bytes, the data section, and the metadata behind their marker.
type mmdbWriter struct {
	dbType string
	nodes  [][2]int // child: ≥0 node, -1 nothing, <-1 data at -(v+2)
	data   bytes.Buffer
}

func newMMDBWriter(dbType string) *mmdbWriter {
	return &mmdbWriter{dbType: dbType, nodes: [][2]int{{-1, -1}}}
}

// add stores a record for a network. IPv4 networks stand below ::/96.
func (w *mmdbWriter) add(network string, record map[string]any) *mmdbWriter {
	prefix := netip.MustParsePrefix(network)
	bits := prefix.Bits()
	addr := prefix.Addr().As16()
	if prefix.Addr().Is4() {
		bits += 96
		four := prefix.Addr().As4()
		addr = [16]byte{}
		copy(addr[12:], four[:])
	}
	offset := w.data.Len()
	encodeMMDB(&w.data, record)
	node := 0
	for i := 0; i < bits; i++ {
		side := int(addr[i/8]>>(7-i%8)) & 1
		if i == bits-1 {
			w.nodes[node][side] = -(offset + 2)
			break
		}
		if w.nodes[node][side] < 0 {
			w.nodes = append(w.nodes, [2]int{-1, -1})
			w.nodes[node][side] = len(w.nodes) - 1
		}
		node = w.nodes[node][side]
	}
	return w
}

func (w *mmdbWriter) bytes() []byte {
	var b bytes.Buffer
	for _, n := range w.nodes {
		for _, child := range n {
			v := len(w.nodes) // nothing
			switch {
			case child >= 0:
				v = child
			case child < -1:
				v = len(w.nodes) + 16 + (-child - 2)
			}
			b.Write([]byte{byte(v >> 16), byte(v >> 8), byte(v)})
		}
	}
	b.Write(make([]byte, 16))
	b.Write(w.data.Bytes())
	b.WriteString("\xab\xcd\xefMaxMind.com")
	encodeMMDB(&b, map[string]any{
		"binary_format_major_version": uint16(2), "binary_format_minor_version": uint16(0),
		"build_epoch": uint64(1_700_000_000), "database_type": w.dbType,
		"description": map[string]any{"en": "test"}, "ip_version": uint16(6), "languages": []any{"en"},
		"node_count": uint32(len(w.nodes)), "record_size": uint16(24),
	})
	return b.Bytes()
}

// write puts the database at path as a careful updater does: by renaming.
func (w *mmdbWriter) write(tb testing.TB, path string) {
	tb.Helper()
	tmp := filepath.Join(tb.TempDir(), "new.mmdb")
	if err := os.WriteFile(tmp, w.bytes(), 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		tb.Fatal(err)
	}
}

func encodeMMDB(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case string:
		mmdbControl(b, 2, len(v))
		b.WriteString(v)
	case float64:
		mmdbControl(b, 3, 8)
		_ = binary.Write(b, binary.BigEndian, math.Float64bits(v))
	case uint16:
		mmdbControl(b, 5, 2)
		_ = binary.Write(b, binary.BigEndian, v)
	case uint32:
		mmdbControl(b, 6, 4)
		_ = binary.Write(b, binary.BigEndian, v)
	case uint64:
		mmdbControl(b, 9, 8)
		_ = binary.Write(b, binary.BigEndian, v)
	case bool:
		n := 0
		if v {
			n = 1
		}
		mmdbControl(b, 14, n)
	case map[string]any:
		mmdbControl(b, 7, len(v))
		for key, value := range v {
			encodeMMDB(b, key)
			encodeMMDB(b, value)
		}
	case []any:
		mmdbControl(b, 11, len(v))
		for _, value := range v {
			encodeMMDB(b, value)
		}
	default:
		panic("type not in the writer")
	}
}

// mmdbControl writes a control byte for sizes below 285.
func mmdbControl(b *bytes.Buffer, kind, size int) {
	short := min(size, 29)
	if kind < 8 {
		b.WriteByte(byte(kind<<5 | short))
	} else {
		b.WriteByte(byte(short))
		b.WriteByte(byte(kind - 7))
	}
	if size >= 29 {
		b.WriteByte(byte(size - 29))
	}
}
