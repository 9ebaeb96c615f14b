package visitor

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// hintedRequest is a page's request by a Chromium of that version, with
// further headers.
func hintedRequest(version string, header ...string) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Sec-CH-UA", `"Chromium";v="`+version+`", "Not_A Brand";v="24", "Google Chrome";v="`+version+`"`)
	r.Header.Set("Sec-Fetch-Dest", "document")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

const (
	askForOurs = "Sec-CH-UA-Full-Version-List, ECT"
	fullList   = `"Chromium";v="131.0.6778.86", "Not_A Brand";v="24.0.0.0", "Google Chrome";v="131.0.6778.205"`
)

func TestAskHints(t *testing.T) {
	ours := []string{"Sec-CH-UA-Full-Version-List", fullList, "ECT", "4g"}
	const nothing = "\x00" // no such header
	for _, c := range []struct {
		name    string
		request *http.Request
		own     []string // the answer's own Accept-CH
		allowed bool
		want    string
	}{
		{"a first page", hintedRequest("131"), nil, true, askForOurs},
		{"they come", hintedRequest("131", ours...), nil, true, nothing},
		{"one does not come", hintedRequest("131", "ECT", "4g"), nil, true, askForOurs},
		{"others are asked for on other pages", hintedRequest("131", "Sec-CH-UA-Model", `""`, "DPR", "2"), nil, true, "Sec-CH-UA-Model, DPR, " + askForOurs},
		{"beside the answer's own", hintedRequest("131"), []string{"DPR"}, true, "DPR, " + askForOurs},
		{"the answer's own counts, not what was asked for before", hintedRequest("131", append(ours, "DPR", "2")...), []string{"RTT"}, true, "RTT, " + askForOurs},
		{"the answer asks for one of them", hintedRequest("131"), []string{"ect, DPR", "Sec-CH-UA-Arch"}, true, "ect, DPR, Sec-CH-UA-Arch, Sec-CH-UA-Full-Version-List"},
		{"the answer wants none any more", hintedRequest("131"), []string{" "}, true, askForOurs},
		{"not allowed", hintedRequest("131"), nil, false, nothing},
		{"not allowed any more", hintedRequest("131", ours...), nil, false, ""},
		{"not allowed any more, others are", hintedRequest("131", append(ours, "DPR", "2")...), nil, false, "DPR"},
		{"not allowed to us", hintedRequest("131", ours...), []string{"ECT"}, false, "ECT"},
		{"a browser without hints", httptest.NewRequest("GET", "/", nil), nil, true, nothing},
		{"a frame", hintedRequest("131", "Sec-Fetch-Dest", "iframe"), nil, true, nothing},
	} {
		answer := http.Header{}
		if c.own != nil {
			answer["Accept-Ch"] = c.own
		}
		kept := strings.Join(c.own, "|")
		AskHints(c.request, answer, c.allowed)
		got := nothing
		if v, ok := answer["Accept-Ch"]; ok {
			got = strings.Join(v, "|")
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if now := strings.Join(c.own, "|"); now != kept {
			t.Errorf("%s: the upstream's own slice is changed to %q", c.name, now)
		}
	}
}

// TestAllHintsAskedForAreUsed: each makes a difference to what is read.
func TestAllHintsAskedForAreUsed(t *testing.T) {
	values := map[string]string{"Sec-CH-UA-Full-Version-List": fullList, "ECT": "3g"}
	var rd Reader
	before := rd.Read(Request{HTTP: hintedRequest("131", "User-Agent", uaChromeWin)}).Device
	answer := http.Header{}
	AskHints(hintedRequest("131"), answer, true)
	for name := range strings.SplitSeq(answer.Get("Accept-CH"), ", ") {
		if after := rd.Read(Request{HTTP: hintedRequest("131", "User-Agent", uaChromeWin, name, values[name])}).Device; after == before {
			t.Errorf("%s tells nothing: %+v", name, after)
		}
	}
}

func TestDiscards(t *testing.T) {
	const model = "Sec-CH-UA-Model"
	post := hintedRequest("131")
	post.Method = "POST"
	brave := hintedRequest("131", "Sec-CH-UA", `"Brave";v="131", "Chromium";v="131", "Not_A Brand";v="24"`)
	for _, c := range []struct {
		name             string
		request          *http.Request
		accept, critical string
		want             bool
	}{
		{"lacks it", hintedRequest("131"), model, model, true},
		{"lacks one of two", hintedRequest("131", model, `""`), model + ", DPR", "DPR," + model, true},
		{"in any case", hintedRequest("131"), strings.ToLower(model), strings.ToUpper(model), true},
		{"a web view", hintedRequest("131", "Sec-CH-UA", `"Android WebView";v="131", "Chromium";v="131"`), model, model, true},
		{"has it, if empty", hintedRequest("131", model, ""), model, model, false},
		{"nothing critical", hintedRequest("131"), model, "", false},
		{"critical, but not asked for", hintedRequest("131"), "DPR", model, false},
		{"not even that", hintedRequest("131"), "", model, false},
		{"one that comes anyway", hintedRequest("131"), "Sec-CH-UA", "Sec-CH-UA", false},
		{"one of images", hintedRequest("131"), "Width", "Width", false},
		{"one that nobody knows", hintedRequest("131"), "Sec-CH-Of-Ours", "Sec-CH-Of-Ours", false},
		{"one that is too new", hintedRequest("123"), "Sec-CH-UA-Form-Factors", "Sec-CH-UA-Form-Factors", false},
		{"one that is just known", hintedRequest("124"), "Sec-CH-UA-Form-Factors", "Sec-CH-UA-Form-Factors", true},
		{"an old Chromium", hintedRequest("95"), model, model, false},
		{"a form", post, model, model, false},
		{"a frame", hintedRequest("131", "Sec-Fetch-Dest", "iframe"), model, model, false},
		{"Brave", brave, model, model, false},
		{"a browser without hints", httptest.NewRequest("GET", "/", nil), model, model, false},
	} {
		answer := http.Header{}
		for name, v := range map[string]string{"Accept-Ch": c.accept, "Critical-Ch": c.critical} {
			if v != "" {
				answer[name] = []string{v}
			}
		}
		if got := Discards(c.request, answer); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestFullVersion(t *testing.T) {
	for _, c := range []struct{ name, ua, list, want string }{
		{"Chrome's own before Chromium's", uaChromeWin, fullList, "131.0.6778.205"},
		{"Chromium's where there is none", uaChromeWin, `"Brave";v="131.0.0.0", "Chromium";v="131.0.6778.86"`, "131.0.6778.86"},
		{"Edge's", uaEdge, `"Microsoft Edge";v="131.0.2903.112", "Chromium";v="131.0.6778.205"`, "131.0.2903.112"},
		{"Opera GX's", uaOpera, `"Opera GX";v="116.0.5366.21", "Chromium";v="131.0.6778.205"`, "116.0.5366.21"},
		{"another version's is not heard", uaChromeWin, `"Google Chrome";v="99.0.1.2"`, "131.0.0.0"},
		{"nonsense is not heard", uaChromeWin, `"Google Chrome";v="<b>"`, "131.0.0.0"},
		{"a browser that sends none", uaFirefoxWin, fullList, "133.0"},
		{"an endless list", uaChromeWin, strings.Repeat(`"a";v="1",`, 1e5) + fullList, "131.0.0.0"},
		{"an endless version", uaChromeWin, `"Google Chrome";v="131.` + strings.Repeat("1", 1e5), "131." + strings.Repeat("1", 20)},
	} {
		var rd Reader
		d := rd.Read(Request{HTTP: hintedRequest("131", "User-Agent", c.ua, "Sec-CH-UA", "", "Sec-CH-UA-Full-Version-List", c.list)}).Device
		if d.BrowserVersion != c.want {
			t.Errorf("%s: %s, want %s", c.name, d.BrowserVersion, c.want)
		}
		checkVocabulary(t, d)
	}
}

func BenchmarkHints(b *testing.B) {
	first, later := hintedRequest("131"), hintedRequest("131", "Sec-CH-UA-Full-Version-List", fullList, "ECT", "4g")
	for name, r := range map[string]*http.Request{"first": first, "later": later} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			answer := http.Header{}
			for b.Loop() {
				delete(answer, "Accept-Ch")
				AskHints(r, answer, true)
				Discards(r, answer)
			}
		})
	}
}
