package inject

import (
	"maps"
	"net/http"
	"slices"
	"testing"
)

func TestInjectedPageStaysOutOfSharedCaches(t *testing.T) {
	h := header("Content-Type", "text/html; charset=utf-8",
		"ETag", `"x"`, "Last-Modified", "y", "Accept-Ranges", "bytes",
		"Content-MD5", "a", "Digest", "b", "Content-Digest", "c", "Repr-Digest", "d",
		"Expires", "tomorrow", "Cache-Control", "public, max-age=600", "CDN-Cache-Control", "max-age=9",
		"Surrogate-Control", "max-age=9", "Cloudflare-CDN-Cache-Control", "max-age=9", "Vercel-CDN-Cache-Control", "max-age=9",
		"Akamai-Cache-Control", "max-age=9", "X-LiteSpeed-Cache-Control", "public, max-age=9",
		"Edge-Control", "cache-maxage=9", "X-Accel-Expires", "9", "Surrogate-Key", "kept", "Vary", "Cookie", "X-Custom", "kept")
	want := header("Content-Type", "text/html; charset=utf-8", "Vary", "Cookie", "X-Custom", "kept", "Surrogate-Key", "kept",
		"Cache-Control", "private, no-cache", "CDN-Cache-Control", "no-store", "Surrogate-Control", "no-store", "X-Accel-Expires", "0")
	got := exchange{header: h, chunks: []string{"<head>x"}}.run(t)
	if have := got.Header(); !maps.EqualFunc(have, want, slices.Equal) {
		t.Errorf("got  %v\nwant %v", have, want)
	}
	skipped := exchange{header: h, chunks: []string{"<!-- "}}.run(t)
	if have := skipped.Header(); !maps.EqualFunc(have, h, slices.Equal) {
		t.Errorf("a page left alone: got %v", have)
	}
}

func TestStricterCacheControlIsKept(t *testing.T) {
	const ours = "private, no-cache"
	for given, want := range map[string]string{
		"":                                     ours,
		"no-store":                             "no-store",
		"No-Store, max-age=0":                  "No-Store, max-age=0",
		"public, no-store":                     "public, no-store",
		"private, no-cache, must-revalidate":   "private, no-cache, must-revalidate",
		"private":                              ours,
		"no-cache":                             ours,
		"private, max-age=60":                  ours,
		"public, private, no-cache":            ours,
		"must-understand, no-store":            ours,
		`private="x", no-cache="Set-Cookie"`:   ours,
		"s-maxage=60, stale-while-revalidate=": ours,
	} {
		h := htmlHeader.Clone()
		if given != "" {
			h.Set("Cache-Control", given)
		}
		got := exchange{header: h, chunks: []string{"<head>x"}}.run(t)
		if have := got.Header()["Cache-Control"]; !slices.Equal(have, []string{want}) {
			t.Errorf("%q became %q, want %q", given, have, want)
		}
	}
	h := htmlHeader.Clone()
	h["Cache-Control"] = []string{"max-age=3", "no-store"}
	if got := (exchange{header: h, chunks: []string{"<head>x"}}).run(t); len(got.Header()["Cache-Control"]) != 2 {
		t.Error("no-store in a second line was lost")
	}
}

func TestDigestsLeaveTheTrailers(t *testing.T) {
	got := exchange{handler: func(w http.ResponseWriter) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h["Trailer"] = []string{"repr-digest, X-Time", "Content-MD5"}
		_, _ = w.Write([]byte("<head>x"))
		h.Set("X-Time", "1")
		h.Set(http.TrailerPrefix+"Repr-Digest", "y")
		h.Set(http.TrailerPrefix+"X-More", "z")
	}}.run(t)
	h := got.Header()
	if have := h["Trailer"]; !slices.Equal(have, []string{"X-Time"}) {
		t.Errorf("announced %q", have)
	}
	if h.Get(http.TrailerPrefix+"Repr-Digest") != "" || h.Get(http.TrailerPrefix+"X-More") != "z" {
		t.Errorf("trailers %v", h)
	}
}

func TestLoaderPageLosesDigestsOnly(t *testing.T) {
	h := header("Content-Type", "text/html; charset=utf-8", "ETag", `"x"`, "Last-Modified", "y", "Accept-Ranges", "bytes",
		"Repr-Digest", "d", "Cache-Control", "public, max-age=600", "Expires", "e")
	want := header("Content-Type", "text/html; charset=utf-8", "ETag", `"x"`, "Last-Modified", "y",
		"Cache-Control", "public, max-age=600", "Expires", "e")
	got := exchange{header: h, chunks: []string{"<head>x"}, opts: Options{Cacheable: true}}.run(t)
	if have := got.Header(); !maps.EqualFunc(have, want, slices.Equal) {
		t.Errorf("got  %v\nwant %v", have, want)
	}
}
