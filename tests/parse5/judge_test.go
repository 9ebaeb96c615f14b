package parse5

import (
	"strings"
	"testing"
)

// A judge that finds nothing is worth something only if it finds what is wrong.
func TestJudgeFindsDifferences(t *testing.T) {
	t.Parallel()
	const script = "<script data-session-context>x</script>"
	tests := map[string]struct {
		original, injected string
		want               string // part of the difference
	}{
		"first in head":      {"<head><title>t", "<head>S<title>t", ""},
		"head made by it":    {"<p>t", "S<p>t", ""},
		"byte order mark":    {"\ufeff<p>t", "\ufeffS<p>t", ""},
		"template":           {"<head><template><p>t", "<head>S<template><p>t", ""},
		"deep":               {"<p>" + strings.Repeat("<i>", 20000), "S<p>" + strings.Repeat("<i>", 20000), ""},
		"not injected":       {"<head><title>t", "<head><title>t", "head begins with"},
		"empty":              {"", "", "head begins with"},
		"second in head":     {"<head><title>t", "<head><title>t</title>S", "head begins with"},
		"in body":            {"<body><p>t", "<body>S<p>t", "head begins with"},
		"other script":       {"<head><title>t", "<head><script>x</script><title>t", "without data-session-context"},
		"says something":     {"<head><title>t", "<head><script data-session-context>y</script><title>t", "the script says"},
		"twice":              {"<head><title>t", "<head>SS<title>t", "title"},
		"space moved":        {" <title>t", "S <title>t", "#text"},
		"comment moved":      {"<!--c--><title>t", "S<!--c--><title>t", "#comment"},
		"comment changed":    {"<head><!--c-->", "<head>S<!--d-->", `"data":"d"`},
		"quirks mode":        {"<!doctype html><title>t", "S<!doctype html><title>t", `"mode":"quirks"`},
		"limited quirks":     {`<!doctype html public "-//W3C//DTD XHTML 1.0 Frameset//"><p>`, "<!doctype html>S<p>", `"mode":"no-quirks"`},
		"doctype":            {"<!doctype html SYSTEM 'about:legacy-compat'><p>", "<!doctype html>S<p>", "#documentType"},
		"attribute of html":  {"<html a=b><title>t", "S<html a=c><title>t", `"value":"c"`},
		"attribute of head":  {"<head a=b><title>t", "S<head a=b><title>t", `"attrs"`},
		"order":              {"<p a=b c=d>", "S<p c=d a=b>", `"attrs"`},
		"text":               {"<p>t", "S<p>u", `"value":"u"`},
		"text in a template": {"<template>t</template>", "S<template>u</template>", "/content"},
		"namespace":          {"<svg><a/></svg>", "S<math><a/></math>", "math"},
		"child missing":      {"<p>t<b>u</b>", "S<p>t", "nothing"},
		"child too many":     {"<p>t", "S<p>t<b>u</b>", "want"},
	}
	var names []string
	var cases []Case
	for name, test := range tests {
		names = append(names, name)
		cases = append(cases, Case{
			Name:     name,
			Original: []byte(test.original),
			Injected: []byte(strings.ReplaceAll(test.injected, "S", script)),
			Script:   "x", Scripting: true,
		})
	}
	for i, got := range Differences(t, cases) {
		want := tests[names[i]].want
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: the difference is %q, want one with %q", names[i], got, want)
		}
	}
}

// The scripting flag decides what noscript holds.
func TestJudgeMindsScripting(t *testing.T) {
	t.Parallel()
	original, injected := "<head><noscript><p>", "<script data-session-context>x</script><head><noscript><meta>"
	c := Case{Original: []byte(original), Injected: []byte(injected), Script: "x"}
	with := c
	with.Scripting = true
	got := Differences(t, []Case{with, c})
	if !strings.Contains(got[0], `"value":"<meta>"`) || strings.Contains(got[1], `"value":"<meta>"`) || got[1] == "" {
		t.Errorf("with scripting %q, without %q", got[0], got[1])
	}
}
