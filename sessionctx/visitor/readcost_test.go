package visitor

import (
	"bufio"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/firebuzz/caddy-sessionctx/tests/geodb"
)

// browsers are the headers of page requests as browsers send them.
var browsers = map[string]string{
	"Chrome on Windows": `Connection: keep-alive
sec-ch-ua: "Google Chrome";v="131", "Chromium";v="131", "Not_A Brand";v="24"
sec-ch-ua-mobile: ?0
sec-ch-ua-platform: "Windows"
Upgrade-Insecure-Requests: 1
User-Agent: ` + uaChromeWin + `
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7
Sec-Fetch-Site: cross-site
Sec-Fetch-Mode: navigate
Sec-Fetch-User: ?1
Sec-Fetch-Dest: document
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7`,
	"Chrome on Android": `sec-ch-ua: "Google Chrome";v="131", "Chromium";v="131", "Not_A Brand";v="24"
sec-ch-ua-mobile: ?1
sec-ch-ua-platform: "Android"
upgrade-insecure-requests: 1
user-agent: ` + uaChromeAndroid + `
accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7
sec-fetch-site: none
sec-fetch-mode: navigate
sec-fetch-user: ?1
sec-fetch-dest: document
ect: 4g
accept-encoding: gzip, deflate, br, zstd
accept-language: fr-FR,fr;q=0.9,en-US;q=0.8,en;q=0.7`,
	"Safari on an iPhone": `accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8
sec-fetch-site: none
accept-encoding: gzip, deflate, br
sec-fetch-mode: navigate
user-agent: ` + uaSafariPhone + `
accept-language: en-GB,en;q=0.9
sec-fetch-dest: document`,
	"Firefox on Linux": `User-Agent: ` + uaFirefoxLinux + `
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8
Accept-Language: pl,en-US;q=0.7,en;q=0.3
Accept-Encoding: gzip, deflate, br, zstd
DNT: 1
Sec-GPC: 1
Connection: keep-alive
Upgrade-Insecure-Requests: 1
Sec-Fetch-Dest: document
Sec-Fetch-Mode: navigate
Sec-Fetch-Site: cross-site
Sec-Fetch-User: ?1
Priority: u=0, i`,
	"Instagram's browser": `accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8
sec-fetch-site: none
accept-encoding: gzip, deflate, br
sec-fetch-mode: navigate
user-agent: ` + uaInstagram + `
referer: https://l.instagram.com/
accept-language: en-US,en;q=0.9
sec-fetch-dest: document`,
	"Edge": `sec-ch-ua: "Microsoft Edge";v="131", "Chromium";v="131", "Not_A Brand";v="24"
sec-ch-ua-mobile: ?0
sec-ch-ua-platform: "Windows"
upgrade-insecure-requests: 1
user-agent: ` + uaEdge + `
accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7
sec-fetch-site: same-origin
sec-fetch-mode: navigate
sec-fetch-user: ?1
sec-fetch-dest: document
referer: https://lp.example.com/other
accept-encoding: gzip, deflate, br, zstd
accept-language: en-US,en;q=0.9`,
}

// targets are what they ask for.
var targets = map[string]string{
	"organic": "/offer",
	"paid": "/offer?utm_source=google&utm_medium=cpc&utm_campaign=Sommer%20Sale&utm_term=a+b&utm_content=1" +
		"&gclid=EAIaIQobChMI0p3R5v2K8QIVhNnVCh2rVwJ9EAAYASAAEgK&gbraid=0AAAAADxyz&gad_source=1&page=2",
}

// fromCloudflare are the headers that it adds with "visitor location headers".
const fromCloudflare = `CF-IPCountry: DE
CF-Region: Bavaria
CF-Region-Code: BY
CF-IPCity: Munich
CF-IPContinent: EU
CF-Timezone: Europe/Berlin
CF-IPLatitude: 48.13743
CF-IPLongitude: 11.57549
CF-Connecting-IP: 192.0.2.7
CF-Ray: 8f2a3b4c5d6e7f80-MUC
CF-Visitor: {"scheme":"https"}
X-Forwarded-For: 192.0.2.7
X-Forwarded-Proto: https`

func parseRequest(tb testing.TB, target, headers string) *http.Request {
	tb.Helper()
	text := "GET " + target + " HTTP/1.1\nHost: lp.example.com\n" + headers + "\n\n"
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n"))))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// cityDatabase knows a place of its own in each of 10.0.0.0/24 … 10.7.255.0/24.
func cityDatabase(tb testing.TB) *MMDB {
	places := map[string]geodb.Record{}
	for i := range 2048 {
		record := geodb.Munich()
		record["city"] = geodb.Record{"names": geodb.Record{"en": fmt.Sprint("City ", i)}}
		record["location"] = geodb.Record{"latitude": float64(i) / 64, "longitude": 11.5755, "time_zone": "Europe/Berlin"}
		places[fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255)] = record
	}
	return openMMDB(tb, geodb.DB{Places: places})
}

// visits are the browsers' page requests, from 2,048 places in turn.
type visits struct {
	name    string
	reader  *Reader
	request []Request
}

func realVisits(tb testing.TB) []visits {
	tb.Helper()
	cdn, err := NamedHeaders("cloudflare")
	if err != nil {
		tb.Fatal(err)
	}
	city := cityDatabase(tb)
	var out []visits
	for _, target := range []string{"organic", "paid"} {
		byAddress := visits{name: target + ", City database", reader: &Reader{Geo: []Geography{city}}}
		byHeaders := visits{name: target + ", CDN headers", reader: &Reader{Geo: []Geography{cdn, city}}}
		for _, headers := range browsers {
			r := parseRequest(tb, targets[target], headers)
			for i := range 64 {
				address := netip.AddrFrom4([4]byte{10, byte(i % 8), byte(len(byAddress.request) % 256), 7})
				byAddress.request = append(byAddress.request, Request{HTTP: r, ClientIP: address, Now: noon})
			}
			r = parseRequest(tb, targets[target], headers+"\n"+fromCloudflare)
			byHeaders.request = append(byHeaders.request, Request{HTTP: r, ClientIP: netip.MustParseAddr("10.0.0.7"), TrustedProxy: true, Now: noon})
		}
		out = append(out, byAddress, byHeaders)
	}
	for _, v := range out {
		for _, q := range v.request { // fills the caches
			if f := v.reader.Read(q); f.Geo.Country != "DE" || f.Geo.City == "" || f.Device.Browser == "Unknown" {
				tb.Fatalf("%s: %+v", v.name, f)
			}
		}
	}
	return out
}

// BenchmarkRead is what all facts of one request cost with warm caches.
func BenchmarkRead(b *testing.B) {
	for _, v := range realVisits(b) {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				v.reader.Read(v.request[i%len(v.request)])
				i++
			}
		})
	}
}

// maxReadAllocations is what all facts of one request may take.
const maxReadAllocations = 15

func TestReadAllocatesLittle(t *testing.T) {
	for _, v := range realVisits(t) {
		for _, q := range v.request {
			if n := testing.AllocsPerRun(10, func() { v.reader.Read(q) }); n > maxReadAllocations {
				t.Errorf("%s, %s: %v allocations, want at most %d", v.name, q.HTTP.UserAgent(), n, maxReadAllocations)
			}
		}
	}
}
