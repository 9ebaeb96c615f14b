package visitor_test

import (
	"fmt"
	"net/http/httptest"

	"github.com/firebuzz/caddy-sessionctx/sessionctx/visitor"
)

func ExampleReader_Read() {
	cdn, err := visitor.NamedHeaders("cloudflare")
	if err != nil {
		fmt.Println(err)
		return
	}
	reader := &visitor.Reader{Geo: []visitor.Geography{cdn}}

	r := httptest.NewRequest("GET", "https://lp.example.com/offer?utm_source=news&gclid=abc&page=2", nil)
	r.Header.Set("User-Agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1")
	r.Header.Set("Accept-Language", "de-DE,de;q=0.9")
	r.Header.Set("CF-IPCountry", "AT")
	facts := reader.Read(visitor.Request{HTTP: r, TrustedProxy: true})

	fmt.Println(facts.Device.Type, facts.Device.OS, facts.Language)
	fmt.Println(facts.Geo.Country, facts.Geo.Continent, facts.Geo.IsEU)
	fmt.Println(facts.Touch.UTM.Source, facts.Touch.LandingPage)
	// Output:
	// mobile iOS de-DE
	// AT EU true
	// news /offer?utm_source=news&gclid=abc
}

func ExampleCampaignURL() {
	fmt.Println(visitor.CampaignURL("https://lp.example.com/offer?email=a@b.c&plan=pro&utm_source=news#top", []string{"plan"}))
	// Output: https://lp.example.com/offer?utm_source=news&plan=pro
}
