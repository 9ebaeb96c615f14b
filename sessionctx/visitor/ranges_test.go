package visitor

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRanges(t *testing.T) {
	r, err := parseRanges(strings.NewReader("\ufeff# of example.com\r\n\n192.0.2.0/24\r\n  198.51.100.7 # one of them\n2001:db8:1::/48\n203.0.113.99/25\n192.0.2.128/25\n2001:db8::5\n"))
	if err != nil {
		t.Fatal(err)
	}
	if r.lines != 6 {
		t.Errorf("%d ranges", r.lines)
	}
	f := &RangeFile{}
	f.current.Store(&keptState[ranges]{is: r})
	for address, want := range map[string]bool{
		"192.0.2.0": true, "192.0.2.255": true, "192.0.3.0": false, "192.0.1.255": false,
		"198.51.100.7": true, "198.51.100.8": false,
		"203.0.113.0": true, "203.0.113.127": true, "203.0.113.128": false,
		"2001:db8:1::1": true, "2001:db8:1:ffff::": true, "2001:db8:2::": false, "2001:db8::5": true, "2001:db8::6": false,
	} {
		if got := f.Contains(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if f.Contains(netip.Addr{}) || (*RangeFile)(nil).Contains(netip.MustParseAddr("192.0.2.1")) || NewRangeFile("x").Contains(netip.MustParseAddr("192.0.2.1")) {
		t.Error("an address, or ranges, that are not there")
	}
}

func TestBadLinesAreNamed(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"a word", "192.0.2.0/24\n\nexample.com\n", `line 3: "example.com" is neither a range like 192.0.2.0/24 or 2001:db8::/32 nor an address`},
		{"a mask too long", "192.0.2.0/33", `line 1: "192.0.2.0/33" is neither`},
		{"two on a line", "192.0.2.1, 192.0.2.2", `line 1: "192.0.2.1, 192.0.2.2" is neither`},
		{"a zone", "fe80::1%eth0", `line 1: "fe80::1%eth0" is neither`},
		{"everybody", "# all\n0.0.0.0/0", `line 2: "0.0.0.0/0" is every address there is: give ranges`},
		{"everybody by IPv6", "::/0", `line 1: "::/0" is every address there is`},
		{"a mapped range", "::ffff:192.0.2.0/120", `line 1: "::ffff:192.0.2.0/120" is an IPv4 range written as IPv6: write it as IPv4`},
		{"several", "a\n192.0.2.1\nb", "line 1: \"a\" is neither a range like 192.0.2.0/24 or 2001:db8::/32 nor an address\nline 3: \"b\" is"},
		{"too many to name", strings.Repeat("x\n", 100), `line 5: "x" is neither a range like 192.0.2.0/24 or 2001:db8::/32 nor an address` + "\nlines after it were not read"},
		{"no lines", strings.Repeat("1", 5000), "line 1: bufio.Scanner: token too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parseRanges(strings.NewReader(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestARangeFileIsReplacedWhileItIsAsked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ranges.txt")
	changes := 0
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		changes++ // two writes may come within one tick of the file system's clock
		at := time.Unix(int64(1e9+changes), 0)
		if err := os.Chtimes(path+".new", at, at); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	in, out := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	f := NewRangeFile(path)
	refresh := func(what string, changed bool, failure string) {
		t.Helper()
		got, err := f.Refresh()
		if got != changed || (err == nil) != (failure == "") || err != nil && !strings.Contains(err.Error(), failure) {
			t.Errorf("%s: changed %v, %v", what, got, err)
		}
	}
	refresh("not there", false, "no such file")
	refresh("still not there", false, "")
	write("192.0.2.0/24")
	refresh("it came", true, "")
	refresh("the same", false, "")

	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				// In one state of the file or the other, never in both or none.
				r := f.get()
				if r.set.Contains(in) == r.set.Contains(out) {
					t.Error("half a file is in force")
					return
				}
			}
		}
	})
	write("198.51.100.0/24\n")
	refresh("replaced", true, "")
	if f.Contains(in) || !f.Contains(out) || f.Lines() != 1 {
		t.Error("the new file is not in force")
	}
	write("192.0.2.0/24\nnonsense\n")
	refresh("a bad line", false, path+": line 2: \"nonsense\"")
	refresh("the same bad line", false, "")
	if !f.Contains(out) {
		t.Error("a bad file is in force")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	refresh("gone", false, "no such file")
	refresh("still gone", false, "")
	if !f.Contains(out) {
		t.Error("the ranges are gone with the file")
	}
	write("192.0.2.0/24\n")
	refresh("back", true, "")
	close(stop)
	asking.Wait()
	if !f.Contains(in) {
		t.Error("the file that came back is not in force")
	}
}

// The collector walks what lives on each page's behalf: so many ranges must be
// few objects.
func TestManyRangesAreFewObjects(t *testing.T) {
	var list bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&list, "%d.%d.%d.0/25\n", 1+i>>16, i>>8&255, i&255)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	r, err := parseRanges(bytes.NewReader(list.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	objects, size := int64(after.HeapObjects)-int64(before.HeapObjects), int64(after.HeapAlloc)-int64(before.HeapAlloc)
	t.Logf("%d objects, %d KiB", objects, size>>10)
	if objects > 1000 || size > 16<<20 {
		t.Errorf("%d ranges are %d objects of %d bytes", r.lines, objects, size)
	}
	runtime.KeepAlive(r)
	runtime.KeepAlive(&list)
}

func TestWhereAVisitorComesFrom(t *testing.T) {
	ranges := func(text string) *RangeFile {
		r, err := parseRanges(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		f := &RangeFile{}
		f.current.Store(&keptState[ranges]{is: r})
		return f
	}
	rd := Reader{Datacenters: ranges("192.0.2.0/24\n198.51.100.0/24"), CorporateProxies: ranges("198.51.100.0/25")}
	for _, c := range []struct {
		name, address, ua string
		score             int
		proxy             bool
	}{
		{"at home", "203.0.113.7", uaFirefoxWin, scoreHuman, false},
		{"from a datacenter", "192.0.2.7", uaFirefoxWin, scoreHuman - penaltyDatacenter, false},
		{"the same by a mapped address", "::ffff:192.0.2.7", uaFirefoxWin, scoreHuman - penaltyDatacenter, false},
		{"through a company's proxy in a datacenter", "198.51.100.7", uaFirefoxWin, scoreHuman, true},
		{"beside that proxy", "198.51.100.200", uaFirefoxWin, scoreHuman - penaltyDatacenter, false},
		{"a program there", "192.0.2.7", "curl/8.5.0", scoreTool, false},
	} {
		b := rd.Read(Request{HTTP: browserRequest("https://lp.example.com/", c.ua), ClientIP: netip.MustParseAddr(c.address)}).Bot
		if b.Score != c.score || b.CorporateProxy != c.proxy {
			t.Errorf("%s: %+v", c.name, b)
		}
	}
	bare := browserRequest("https://lp.example.com/", "MyChecker 1.0")
	bare.Header = map[string][]string{"User-Agent": {"MyChecker 1.0"}}
	if b := rd.Read(Request{HTTP: bare, ClientIP: netip.MustParseAddr("192.0.2.7")}).Bot; b.Score != lowestUndeclaredScore {
		t.Errorf("with everything against it: %d", b.Score)
	}
	if b := rd.Read(Request{HTTP: browserRequest("https://lp.example.com/", uaFirefoxWin)}).Bot; b.Score != scoreHuman || b.CorporateProxy {
		t.Errorf("without an address: %+v", b)
	}
}

func FuzzRanges(f *testing.F) {
	for _, s := range []string{"192.0.2.0/24\n# x\n2001:db8::/32 # y\r\n", "::ffff:1.2.3.4/97", "1.2.3.4/0", "fe80::1%a/64", "\ufeff\n\x00/", "0.0.0.0/1\n128.0.0.0/1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseRanges(bytes.NewReader(text))
		if err != nil {
			if len(err.Error()) > 2000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		for line := range strings.Lines(string(text)) {
			line, _, _ = strings.Cut(strings.TrimPrefix(line, "\ufeff"), "#")
			if p, err := netip.ParsePrefix(strings.TrimSpace(line)); err == nil && !r.set.Contains(p.Addr()) {
				t.Errorf("%s is not in its own range", p)
			}
		}
	})
}
