package sessionctx

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func dayKeysAt(tb testing.TB, seed uint64, ms int64) *DayKeys {
	tb.Helper()
	k, err := (*DayKeys)(nil).Tend(seeded(seed), ms)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func factsOf(ip, agent string) *Facts {
	f := humanFacts()
	f.ClientIP, f.UserAgent = netip.MustParseAddr(ip), agent
	return f
}

func visitorKey(tb testing.TB, k *DayKeys, ms int64, workspace string, f *Facts) VisitorKey {
	tb.Helper()
	key, ok := k.VisitorKey(ms, workspace, f)
	if !ok {
		tb.Fatal("no visitor key")
	}
	return key
}

func TestVisitorKeyIsOfWorkspaceAddressAgentAndDay(t *testing.T) {
	k := dayKeysAt(t, 1, noonMS)
	base := visitorKey(t, k, noonMS, "ws_1", factsOf("203.0.113.7", "agent"))
	for name, same := range map[string]VisitorKey{
		"an hour later": visitorKey(t, k, noonMS+60*minuteMS, "ws_1", factsOf("203.0.113.7", "agent")),
		"mapped":        visitorKey(t, k, noonMS, "ws_1", factsOf("::ffff:203.0.113.7", "agent")),
	} {
		if same != base {
			t.Errorf("%s: another key", name)
		}
	}
	for name, other := range map[string]VisitorKey{
		"another day":       visitorKey(t, k, noonMS+dayMS, "ws_1", factsOf("203.0.113.7", "agent")),
		"another address":   visitorKey(t, k, noonMS, "ws_1", factsOf("203.0.113.8", "agent")),
		"another agent":     visitorKey(t, k, noonMS, "ws_1", factsOf("203.0.113.7", "agent2")),
		"another workspace": visitorKey(t, k, noonMS, "ws_2", factsOf("203.0.113.7", "agent")),
		"moved bytes":       visitorKey(t, k, noonMS, "ws_1a", factsOf("203.0.113.7", "gent")),
		"another secret":    visitorKey(t, dayKeysAt(t, 2, noonMS), noonMS, "ws_1", factsOf("203.0.113.7", "agent")),
		"IPv6 that begins alike": visitorKey(t, k, noonMS, "ws_1",
			factsOf("cb00:7107::1", "agent")),
	} {
		if other == base || other.Day() == base.Day() || other.Index() == base.Index() {
			t.Errorf("%s: the same key", name)
		}
	}
	one, two := factsOf("2001:db8:1:2::3", "a"), factsOf("2001:db8:1:2:ffff::4", "a")
	if visitorKey(t, k, noonMS, "ws_1", one) != visitorKey(t, k, noonMS, "ws_1", two) {
		t.Error("two addresses of one /64 have two keys")
	}
	if visitorKey(t, k, noonMS, "ws_1", one) == visitorKey(t, k, noonMS, "ws_1", factsOf("2001:db8:1:3::3", "a")) {
		t.Error("two /64 have one key")
	}
	if strings.Contains(base.Index(), base.Day()) {
		t.Error("the store's name shows the column's value")
	}
	if _, ok := k.VisitorKey(noonMS, "ws_1", &Facts{UserAgent: "agent"}); ok {
		t.Error("a key without an address")
	}
}

func TestDayKeysComeBeforeTheirDayAndGoAfterTwo(t *testing.T) {
	f := factsOf("203.0.113.7", "agent")
	midnight := (noonMS/dayMS + 1) * dayMS
	k := dayKeysAt(t, 1, midnight-1)
	last := visitorKey(t, k, midnight-1, "ws_1", f)
	next := visitorKey(t, k, midnight, "ws_1", f) // made before its day
	for _, step := range []struct {
		name         string
		now          int64
		lives, tends bool
	}{
		{"midnight", midnight, true, true},
		{"the end of the day after", midnight + dayMS - 1, true, true},
		{"two days are over", midnight + dayMS, false, true},
	} {
		var err error
		if k, err = k.Tend(seeded(uint64(step.now)), step.now); err != nil {
			t.Fatal(err)
		}
		if again, err := k.Tend(seeded(9), step.now); err != nil || again != k {
			t.Errorf("%s: tended twice: %v", step.name, err)
		}
		got, ok := k.VisitorKey(midnight-1, "ws_1", f)
		if ok != step.lives || ok && got != last {
			t.Errorf("%s: the key lives: %v", step.name, ok)
		}
		b, err := k.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("2026-03-14")) != step.lives {
			t.Errorf("%s: in storage: %s", step.name, b)
		}
		back, err := ParseDayKeys(b)
		if err != nil || !back.Equal(k) {
			t.Errorf("%s: read again: %v", step.name, err)
		}
		if got := visitorKey(t, back, midnight, "ws_1", f); got != next {
			t.Errorf("%s: the day's key changed", step.name)
		}
		if _, ok := k.VisitorKey(step.now+dayMS, "ws_1", f); !ok {
			t.Errorf("%s: tomorrow has no key yet", step.name)
		}
	}
	if old := k.Prune(midnight + 30*dayMS); len(old.days) != 0 {
		t.Error("old keys stay")
	}
}

func TestDamagedDayKeysAreNamedAndNotQuoted(t *testing.T) {
	good, err := dayKeysAt(t, 1, noonMS).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var f dayKeysFile
	if err := json.Unmarshal(good, &f); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]string{
		"half":         string(good[:len(good)/2]),
		"a short key":  `{"version":1,"keys":[{"day":"2026-03-14","secret":"` + f.Keys[0].Secret[:40] + `"}]}`,
		"no day":       `{"version":1,"keys":[{"day":"today","secret":"` + f.Keys[0].Secret + `"}]}`,
		"a day twice":  `{"version":1,"keys":[{"day":"2026-03-14","secret":"` + f.Keys[0].Secret + `"},{"day":"2026-03-14","secret":"` + f.Keys[1].Secret + `"}]}`,
		"before 1970":  `{"version":1,"keys":[{"day":"1960-03-14","secret":"` + f.Keys[0].Secret + `"}]}`,
		"another JSON": `[]`,
	} {
		_, err := ParseDayKeys([]byte(b))
		if !errors.Is(err, ErrDayKeysDamaged) || strings.Contains(err.Error(), f.Keys[0].Secret[:20]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseDayKeys([]byte(`{"version":2}`)); err == nil || errors.Is(err, ErrDayKeysDamaged) {
		t.Errorf("a newer version: %v", err)
	}
}

func FuzzDayKeys(f *testing.F) {
	good, _ := dayKeysAt(f, 1, noonMS).Marshal()
	f.Add(good)
	f.Add([]byte(`{"version":1,"keys":[{"day":"2026-03-14","secret":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseDayKeys(b)
		if err != nil {
			return
		}
		again, err := k.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseDayKeys(again); err != nil || !back.Equal(k) {
			t.Errorf("%q came back as %q: %v", b, again, err)
		}
	})
}

func TestWhoHasAVisitorKey(t *testing.T) {
	asked, yes := Consent{Required: true, Source: ConsentPending}, Consent{Purposes: Purposes{Analytics: true}, Source: ConsentReference}
	user := &UserCookie{}
	for name, tt := range map[string]struct {
		edit    func(c *Campaign, f *Facts, carried *Carried)
		consent Consent
		want    bool
	}{
		"asked, and nothing said":      {nil, asked, true},
		"cookieless":                   {func(c *Campaign, _ *Facts, _ *Carried) { c.Cookies = false }, granted, true},
		"cookieless after a yes":       {func(c *Campaign, _ *Facts, _ *Carried) { c.Cookies = false }, yes, true},
		"a yes whose cookies come now": {nil, yes, true},
		"a yes with its cookies":       {func(_ *Campaign, _ *Facts, k *Carried) { k.User = user }, yes, false},
		"cookies, never asked":         {nil, granted, false},
		"random":                       {func(c *Campaign, _ *Facts, _ *Carried) { c.VisitorKeys = false }, asked, false},
		"a no":                         {nil, Consent{Required: true, Source: ConsentReference}, false},
		"a recorded no":                {nil, Consent{Required: true, Source: ConsentChoice}, false},
		"a no to a cookieless site":    {func(c *Campaign, _ *Facts, _ *Carried) { c.Cookies = false }, Consent{Source: ConsentReference}, false},
		"GPC":                          {func(_ *Campaign, f *Facts, _ *Carried) { f.GPC = true }, asked, false},
		"DNT, though not respected":    {func(_ *Campaign, f *Facts, _ *Carried) { f.DNT = true }, asked, false},
		"prefetched":                   {func(_ *Campaign, f *Facts, _ *Carried) { f.Purpose = PurposePrefetch }, asked, true},
		"by a proxy of the browser":    {func(_ *Campaign, f *Facts, _ *Carried) { f.Fetch.AnonymousIP = true }, asked, false},
		"no address":                   {func(_ *Campaign, f *Facts, _ *Carried) { f.ClientIP = netip.Addr{} }, asked, false},
	} {
		c, f, carried := testCampaign(), factsOf("203.0.113.7", "agent"), &Carried{}
		c.VisitorKeys = true
		if tt.edit != nil {
			tt.edit(c, f, carried)
		}
		if got := KeysVisitor(c, f, &tt.consent, carried); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func BenchmarkVisitorKey(b *testing.B) {
	k, f := dayKeysAt(b, 1, noonMS), factsOf("203.0.113.7", humanFacts().UserAgent)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := k.VisitorKey(noonMS, "ws_1", f); !ok {
			b.Fatal("no key")
		}
	}
}
