package visitor

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"go4.org/netipx"
)

// Bounds of a file of ranges.
const (
	maxRanges    = 1_000_000 // 48 MB, if none touch
	maxRangeLine = 1024      // bytes
	maxBadLines  = 5         // named in an error
)

// RangeFile knows whether an address is in one of the ranges of a file: an IPv4
// or IPv6 range (192.0.2.0/24) or a single address a line; empty lines, and what
// follows a #, are comments. The file may be replaced or rewritten at any time;
// one that can't be read, or has a bad line, leaves the former in force. A
// look-up takes no lock and no memory. A nil RangeFile has no ranges.
type RangeFile struct{ keptFile[ranges] }

// ranges is one state of the file.
type ranges struct {
	set   *netipx.IPSet // sorted and merged: one object, however many ranges
	lines int
}

// NewRangeFile makes one that has no ranges until Refresh reads them.
func NewRangeFile(path string) *RangeFile {
	return &RangeFile{keptFile[ranges]{path: path, what: "address ranges of", read: readRanges}}
}

// Contains reports whether the address is in one of the ranges.
func (f *RangeFile) Contains(ip netip.Addr) bool {
	if f == nil || !ip.IsValid() {
		return false
	}
	r := f.get()
	return r != nil && r.set.Contains(ip)
}

// Lines is how many ranges and addresses the file in force has.
func (f *RangeFile) Lines() int {
	if r := f.get(); r != nil {
		return r.lines
	}
	return 0
}

func readRanges(path string) (*ranges, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return parseRanges(file)
}

// parseRanges reads a file line by line. Its error names the first bad lines.
func parseRanges(from io.Reader) (*ranges, error) {
	var (
		b   netipx.IPSetBuilder
		r   ranges
		bad []error
	)
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, maxRangeLine), maxRangeLine)
	n := 0
	for lines.Scan() {
		n++
		text, _, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "\ufeff"), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := parseRange(text)
		if err != nil {
			if bad = append(bad, fmt.Errorf("line %d: %w", n, err)); len(bad) == maxBadLines {
				return nil, errors.Join(append(bad, errors.New("lines after it were not read"))...)
			}
			continue
		}
		if r.lines++; r.lines > maxRanges {
			return nil, fmt.Errorf("line %d: more than %d ranges: merge neighbours into larger ones", n, maxRanges)
		}
		b.AddPrefix(p)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	if len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	set, err := b.IPSet()
	if err != nil {
		return nil, err
	}
	r.set = set
	return &r, nil
}

func parseRange(text string) (netip.Prefix, error) {
	if len(text) > 64 {
		text = text[:64] + "…"
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		ip, ipErr := netip.ParseAddr(text)
		if ipErr != nil || ip.Zone() != "" {
			return p, fmt.Errorf("%q is neither a range like 192.0.2.0/24 or 2001:db8::/32 nor an address", text)
		}
		p = netip.PrefixFrom(ip, ip.BitLen())
	}
	switch {
	case p.Bits() == 0:
		return p, fmt.Errorf("%q is every address there is: give ranges", text)
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%q is an IPv4 range written as IPv6: write it as IPv4", text)
	}
	return p.Masked(), nil
}
