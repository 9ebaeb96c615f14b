package visitor

import (
	"fmt"
	"strings"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// countriesByContinent is every country of ISO 3166-1, and Kosovo (XK), by
// the continent that geographic databases commonly give.
var countriesByContinent = map[string]string{
	"AF": "AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW KE KM LR LS LY MA MG ML MR MU MW MZ NA NE NG RE RW SC SD SH SL SN SO SS ST SZ TD TG TN TZ UG YT ZA ZM ZW",
	"AN": "AQ BV GS HM TF",
	"AS": "AE AF AM AZ BD BH BN BT CC CN CX GE HK ID IL IN IO IQ IR JO JP KG KH KP KR KW KZ LA LB LK MM MN MO MV MY NP OM PH PK PS QA SA SG SY TH TJ TL TM TR TW UZ VN YE",
	"EU": "AD AL AT AX BA BE BG BY CH CY CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME MK MT NL NO PL PT RO RS RU SE SI SJ SK SM UA VA XK",
	"NA": "AG AI AW BB BL BM BQ BS BZ CA CR CU CW DM DO GD GL GP GT HN HT JM KN KY LC MF MQ MS MX NI PA PM PR SV SX TC TT US VC VG VI",
	"OC": "AS AU CK FJ FM GU KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TO TV UM VU WF WS",
	"SA": "AR BO BR CL CO EC FK GF GY PE PY SR UY VE",
}

// euCountries are the member states, and the parts of them with codes of
// their own in which Union law applies (the outermost regions of France and
// the Åland Islands).
const euCountries = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK " +
	"GF GP MF MQ RE YT AX"

// eeaCountries are the states of the European Economic Area beside the Union's.
var eeaCountries = []string{"IS", "LI", "NO"}

// EUIncludes reads what an operator counts as the European Union beside its
// members: "eea", or countries by their two letters, in any case. It returns
// the countries.
func EUIncludes(words []string) ([]string, error) {
	var codes []string
	for _, word := range words {
		code := strings.ToUpper(word)
		if code == "EEA" {
			codes = append(codes, eeaCountries...)
			continue
		}
		if i := countryIndex(code); i < 0 || countries[i].continent == "" {
			return nil, fmt.Errorf("%q is no country: wanted are eea, or two-letter codes like gb and ch", word)
		}
		codes = append(codes, code)
	}
	return codes, nil
}

// country is what is known of a code.
type country struct {
	continent string
	eu        bool
}

// countries is indexed by the two letters.
var countries = func() (table [26 * 26]country) {
	for continent, codes := range countriesByContinent {
		for code := range strings.FieldsSeq(codes) {
			table[countryIndex(code)].continent = continent
		}
	}
	for code := range strings.FieldsSeq(euCountries) {
		table[countryIndex(code)].eu = true
	}
	return table
}()

// countryIndex is a code's place in the table, -1 if it isn't two capitals.
func countryIndex(code string) int {
	if len(code) != 2 || code[0] < 'A' || code[0] > 'Z' || code[1] < 'A' || code[1] > 'Z' {
		return -1
	}
	return int(code[0]-'A')*26 + int(code[1]-'A')
}

// completeGeo fills in what follows from the country, and reports whether
// there is one. Codes that name no country (XX, T1 for Tor, EU, AP, A1) are
// unknown.
func completeGeo(g *sessionctx.Geo) bool {
	g.Country = strings.ToUpper(g.Country)
	i := countryIndex(g.Country)
	if i < 0 || countries[i].continent == "" {
		*g = sessionctx.Geo{Continent: continentCode(g.Continent)}
		return false
	}
	if g.Continent = continentCode(g.Continent); g.Continent == "" {
		g.Continent = countries[i].continent
	}
	g.IsEU = countries[i].eu
	// Some databases name regions without a code. This one decides about
	// consent.
	if g.Country == "US" && g.RegionCode == "" && strings.EqualFold(g.Region, "California") {
		g.RegionCode = "CA"
	}
	return true
}

// continentCode is a valid continent's code, else "".
func continentCode(s string) string {
	switch s = strings.ToUpper(s); s {
	case "AF", "AN", "AS", "EU", "NA", "OC", "SA":
		return s
	}
	return ""
}
