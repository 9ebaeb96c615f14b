package tests

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/firebuzz/caddy-sessionctx/tests/geodb"
	"github.com/firebuzz/caddy-sessionctx/tests/standin"
)

// requestsBurst is how many calls a client has before it is limited.
const requestsBurst = 5

// listeners are the ways into one site. The database of places knows the peer
// itself (in Japan), so that the country tells which address was believed.
type listeners struct {
	caddy *caddy
	rows  *standin.Server
	// Networks and addresses to dial, by name: open trusts no proxy, trusted
	// and strict trust the peer, proxy speaks the PROXY protocol, socket and
	// trusting are UNIX sockets of which the second is a trusted proxy's.
	at map[string][2]string
}

func startListeners(t testing.TB, app string) *listeners {
	t.Helper()
	c := newCaddy(t)
	l := &listeners{caddy: c, rows: standin.New(t), at: map[string][2]string{}}
	geodb.DB{Places: map[string]geodb.Record{
		"127.0.0.0/8":    geodb.Country("JP"),
		"192.0.2.0/24":   geodb.Munich(),
		"203.0.113.0/24": geodb.Country("BR"),
		"2001:db8::/32":  geodb.Country("FR"),
	}}.Write(t, c.path("geo.mmdb"))
	const peer = "127.0.0.1/32"
	options, sites := "", ""
	for name, o := range map[string]string{
		"open":     "",
		"trusted":  "trusted_proxies static " + peer,
		"strict":   "trusted_proxies static " + peer + "\n\t\ttrusted_proxies_strict",
		"proxy":    "listener_wrappers {\n\t\t\tproxy_protocol {\n\t\t\t\tallow " + peer + "\n\t\t\t}\n\t\t}",
		"socket":   "",
		"trusting": "trusted_proxies_unix",
	} {
		var listen string
		switch name {
		case "socket", "trusting":
			path := t.TempDir() + "/" + name
			l.at[name], listen = [2]string{"unix", path}, "unix/"+path
			sites += "http:// {\n\tbind " + listen + "\n\timport site\n}\n"
		default:
			addr := freeAddr(t)
			_, port, _ := net.SplitHostPort(addr)
			l.at[name], listen = [2]string{"tcp", addr}, ":"+port
			sites += "http://" + listen + " {\n\timport site\n}\n"
		}
		// From Caddy 2.11.9 on a server takes 16 KB by default.
		options += "\tservers " + listen + " {\n\t\tmax_header_size 1MiB\n\t\t" + o + "\n\t}\n"
	}
	head := globals("\t\tgeo headers cloudflare\n\t\tgeo mmdb DIR/geo.mmdb\n" + app + "\n" + tinybirdSink(l.rows))
	c.write(strings.Replace(head, "\tsession_context", options+"\tsession_context", 1) +
		"(site) {\n\t" + campaignLines("cmp_1", fmt.Sprint("rate_limit 1 ", requestsBurst), "consent {\n\t\t\trequire always\n\t\t}") + "\n\theader Content-Type \"text/html; charset=utf-8\"\n" +
		"\trespond \"<!doctype html><html><head><title>x</title></head><body></body></html>\"\n}\nSITE {\n\trespond 404\n}\n" + sites)
	c.start()
	return l
}

// send writes the bytes of one request, and reads its answer.
func (l *listeners) send(listener, request string) (*http.Response, string, error) {
	at := l.at[listener]
	conn, err := net.Dial(at[0], at[1])
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	// The answer to a bad request may come before the whole of it is written.
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, request)
		sent <- err
	}()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, "", errors.Join(err, <-sent)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

// request is a page request with the header lines, which may hold any bytes.
// Each has a user agent of its own, unless it brings one.
func rawRequest(n int, target string, lines ...string) string {
	text := "GET " + target + " HTTP/1.1\r\n"
	host, agent := "Host: lp.example.com", fmt.Sprint("User-Agent: ", desktop, " case ", n)
	for _, line := range lines {
		name, _, _ := strings.Cut(strings.ToLower(line), ":")
		switch name {
		case "host":
			host = ""
		case "user-agent":
			agent = ""
		}
	}
	for _, line := range append([]string{host, agent, "Accept: text/html", "Connection: close"}, lines...) {
		if line != "" {
			text += line + "\r\n"
		}
	}
	return text + "\r\n"
}

// TestRequestsAsTheyCome sends what visitors, proxies and attackers send, byte
// by byte, and looks at the page's context and at the rows.
func TestRequestsAsTheyCome(t *testing.T) {
	t.Parallel()
	l := startListeners(t, "")
	const here = "http://lp.example.com"
	big := func(unit string) string { return strings.Repeat(unit, 64<<10/len(unit)) }
	cases := []struct {
		name, listener string
		before         string // the request, on the connection
		target         string // "/" by default
		lines          []string
		status         int // 200 by default; a page has its context then
		country        string
		base           string
		row            map[string]any // of the row's geo
	}{
		{name: "nothing special", listener: "open", country: "JP", base: here},
		{name: "all that a stranger can forge", listener: "open", lines: []string{
			"X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example", "CF-IPCountry: BR", "CF-Connecting-IP: 192.0.2.7",
			"X-Real-IP: 192.0.2.7", "Forwarded: for=192.0.2.7;proto=https;host=evil.example", "True-Client-IP: 192.0.2.7", "X-Client-IP: 192.0.2.7",
		}, country: "JP", base: here, row: map[string]any{"city": "Unknown", "is_eu_country": 0}},
		{name: "the same from a trusted proxy", listener: "trusted", lines: []string{
			"X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example:8443",
		}, country: "DE", base: "https://shop.example:8443", row: map[string]any{"city": "Munich", "region_code": "BY", "timezone": "Europe/Berlin", "is_eu_country": 1}},
		{name: "the CDN's country goes before the database's", listener: "trusted", lines: []string{"X-Forwarded-For: 192.0.2.7", "CF-IPCountry: BR"}, country: "BR", base: here},
		{name: "two countries are none", listener: "trusted", lines: []string{"X-Forwarded-For: 192.0.2.7", "CF-IPCountry: BR", "CF-IPCountry: US"}, country: "DE", base: here},
		{name: "a list of countries is none", listener: "trusted", lines: []string{"X-Forwarded-For: 192.0.2.7", "CF-IPCountry: BR, US"}, country: "DE", base: here},
		{name: "a country that is none", listener: "trusted", lines: []string{"X-Forwarded-For: 192.0.2.7", "CF-IPCountry: T1"}, country: "DE", base: here},
		{name: "a city of 64 KB", listener: "trusted", lines: []string{"CF-IPCountry: BR", "CF-IPCity: " + big("São Paulo ")}, country: "BR", base: here, row: map[string]any{"city": "Unknown"}},
		{name: "a city that is no UTF-8", listener: "trusted", lines: []string{"CF-IPCountry: BR", "CF-IPCity: S\xe3o\xff Paulo\t"}, country: "BR", base: here, row: map[string]any{"city": "So Paulo"}},
		{name: "a city with a script in it", listener: "trusted", lines: []string{"CF-IPCountry: BR", "CF-IPCity: </script><script>alert(1)//"}, country: "BR", base: here},
		{name: "an address that a stranger put before the proxy's", listener: "strict", lines: []string{"X-Forwarded-For: 203.0.113.9, 192.0.2.7"}, country: "DE", base: here},
		{name: "IPv6", listener: "trusted", lines: []string{"X-Forwarded-For: 2001:db8::1"}, country: "FR", base: here},
		{name: "IPv6 with a zone", listener: "trusted", lines: []string{"X-Forwarded-For: 2001:db8::1%eth0"}, country: "FR", base: here},
		{name: "IPv6 with a port", listener: "trusted", lines: []string{"X-Forwarded-For: [2001:db8::1]:443"}, country: "FR", base: here},
		{name: "link-local with a zone is nowhere", listener: "trusted", lines: []string{"X-Forwarded-For: fe80::1%eth0"}, country: "US", base: here, row: map[string]any{"is_eu_country": 0}},
		{name: "IPv4 mapped into IPv6", listener: "trusted", lines: []string{"X-Forwarded-For: ::ffff:192.0.2.7"}, country: "DE", base: here},
		{name: "IPv4 mapped into IPv6, in hex", listener: "trusted", lines: []string{"X-Forwarded-For: ::ffff:c000:207"}, country: "DE", base: here},
		{name: "no address at all", listener: "trusted", lines: []string{"X-Forwarded-For: unknown, <script>, 999.1.1.1"}, country: "JP", base: here},
		{name: "64 KB of addresses", listener: "trusted", lines: []string{"X-Forwarded-For: " + big("192.0.2.7, ") + "203.0.113.9"}, country: "DE", base: here},
		{name: "a forwarded host that would break out", listener: "trusted", lines: []string{`X-Forwarded-Host: a"><script>`, "X-Forwarded-Proto: javascript"}, country: "JP", base: here},
		{name: "hosts and schemes in lists", listener: "trusted", lines: []string{"X-Forwarded-Host: shop.example , inner", "X-Forwarded-Proto: https,http"}, country: "JP", base: "https://lp.example.com"},
		{name: "a forwarded host of 64 KB", listener: "trusted", lines: []string{"X-Forwarded-Host: " + big("a.")}, country: "JP", base: here},
		{name: "a host with a zone", listener: "open", lines: []string{"Host: [fe80::1%25eth0]"}, country: "JP", base: "http://localhost"},
		{name: "a host in IPv6", listener: "open", lines: []string{"Host: [2001:DB8::1]:8080"}, country: "JP", base: "http://[2001:db8::1]:8080"},
		{name: "an empty host", listener: "open", lines: []string{"Host: "}, status: 400},
		{name: "a host of 300 bytes", listener: "open", lines: []string{"Host: " + strings.Repeat("a", 300)}, country: "JP", base: "http://localhost"},
		{name: "two hosts", listener: "open", lines: []string{"Host: a.example", "Host: b.example"}, status: 400},
		{name: "a NUL in a header", listener: "open", lines: []string{"Referer: https://a.example/\x00"}, status: 400},
		{name: "a control character in a header", listener: "trusted", lines: []string{"CF-IPCity: a\x01b"}, status: 400},
		{name: "a header that is folded", listener: "open", lines: []string{"Accept-Language: de,", " en"}, country: "JP", base: here},
		{name: "an agent of 64 KB that is no UTF-8", listener: "open", lines: []string{"User-Agent: " + big("Mozilla/5.0 \xff(;")}, country: "JP", base: here},
		{name: "no agent", listener: "open", lines: []string{"User-Agent:"}, country: "JP", base: here},
		{name: "languages of 64 KB", listener: "open", lines: []string{"Accept-Language: " + big("x-\xff;q=0.1,")}, country: "JP", base: here},
		{name: "cookies of 64 KB", listener: "open", lines: []string{"Cookie: " + big("__Host-fb_user_ws_1=\xff\"; ")}, country: "JP", base: here},
		{name: "hints that say nonsense", listener: "open", lines: []string{"Sec-CH-UA: " + big(`"`), "Sec-CH-UA-Mobile: ?9", "Sec-CH-UA-Platform: \xff", "ECT: 7g", "Sec-GPC: 2", "DNT: yes"}, country: "JP", base: here},
		{name: "a path and a query of any bytes", listener: "open", target: "/%00%ff%zz"[:7] + "?utm_source=%ff%00a%0d%0aSet-Cookie:x&utm_medium=\xff&gclid=%3Cscript%3E&ref=" + big("r"), country: "JP", base: here},
		{name: "a path that is no path", listener: "open", target: "/%zz", status: 400},
		{name: "an absolute target", listener: "open", target: "http://abs.example/", country: "JP", base: "http://abs.example"},
		{name: "an authority in the path", listener: "open", target: "//evil.example/x", country: "JP", base: here},
		{name: "headers of 2 MB", listener: "open", lines: []string{"X-Big: " + strings.Repeat("a", 2<<20)}, status: 431},
		{name: "a UNIX socket", listener: "socket", country: "US", base: here, row: map[string]any{"continent": "Unknown", "is_eu_country": 0}},
		{name: "forged by who can write to the socket", listener: "socket", lines: []string{"X-Forwarded-For: 192.0.2.7", "CF-IPCountry: BR"}, country: "US", base: here},
		{name: "a UNIX socket that a proxy writes to", listener: "trusting", lines: []string{"X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https"}, country: "DE", base: "https://lp.example.com"},
		{name: "a proxy at a UNIX socket that names nobody", listener: "trusting", country: "US", base: here},
		{name: "PROXY protocol", listener: "proxy", before: "PROXY TCP4 192.0.2.7 127.0.0.1 56324 80\r\n", country: "DE", base: here},
		{name: "PROXY protocol, IPv6", listener: "proxy", before: "PROXY TCP6 2001:db8::1 ::1 56324 80\r\n", country: "FR", base: here},
		{name: "PROXY protocol, of nobody", listener: "proxy", before: "PROXY UNKNOWN\r\n", country: "JP", base: here},
		{name: "PROXY protocol, and headers that its client forges", listener: "proxy", before: "PROXY TCP4 192.0.2.7 127.0.0.1 56324 80\r\n", lines: []string{"X-Forwarded-For: 203.0.113.9", "CF-IPCountry: BR"}, country: "DE", base: here},
	}
	byName := map[string]*sessionContext{} // of those that have a row
	for n, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.target == "" {
				c.target = "/"
			}
			if c.status == 0 {
				c.status = 200
			}
			res, body, err := l.send(c.listener, c.before+rawRequest(n, c.target, c.lines...))
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != c.status {
				t.Fatalf("status %d, want %d\n%.300s", res.StatusCode, c.status, body)
			}
			if c.status != 200 {
				return
			}
			s := parseContext(t, body)
			byName[c.name] = s
			if s.GDPRSettings["countryCode"] != c.country || s.APIBaseURL != c.base {
				t.Errorf("country %v, base %s; want %s, %s", s.GDPRSettings["countryCode"], s.APIBaseURL, c.country, c.base)
			}
		})
	}
	rows := map[string]map[string]any{}
	for _, row := range waitRows(t, l.rows, "traffic_v1", len(byName)) {
		rows[row["session_id"].(string)] = row
	}
	for _, c := range cases {
		s := byName[c.name]
		if s == nil {
			continue
		}
		row := rows[s.Session.SessionID]
		if row == nil {
			t.Errorf("%s: no row", c.name)
			continue
		}
		want := map[string]any{"country": c.country}
		if c.country == "US" {
			want["country"] = "Unknown" // what pages have the US for
		}
		maps.Copy(want, c.row)
		expect(t, c.name, row["geo"].(map[string]any), want)
	}

	// Visitors without an address share no bucket: one could lock others out.
	t.Run("the rate limit", func(t *testing.T) {
		for listener, refused := range map[string]bool{"open": true, "socket": false} {
			last := 0
			for range requestsBurst + 1 {
				_, page, err := l.send(listener, rawRequest(len(cases), "/"))
				if err != nil {
					t.Fatal(err)
				}
				body := fmt.Sprintf(`{"token":%q}`, parseContext(t, page).Session.Token)
				res, answer, err := l.send(listener, fmt.Sprintf("POST /client-api/v1/events/session/init HTTP/1.1\r\nHost: lp.example.com\r\nConnection: close\r\n"+
					"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
				if err != nil {
					t.Fatal(err)
				}
				if last = res.StatusCode; last != 200 && last != 429 {
					t.Fatalf("%s: status %d: %s", listener, last, answer)
				}
			}
			if (last == 429) != refused {
				t.Errorf("%s: the last call's status is %d", listener, last)
			}
		}
		for _, row := range waitRows(t, l.rows, "session_v1", requestsBurst+requestsBurst+1) {
			known := row["country"] != "Unknown"
			if keyed := row["visitor_day"] != nil; keyed != known {
				t.Errorf("a visitor in %v has the key %v", row["country"], row["visitor_day"])
			}
		}
	})
}
