package inject

import (
	"net/http"
	"slices"
	"testing"
)

func TestPoliciesAllowTheScript(t *testing.T) {
	for name, test := range map[string]struct {
		in, want []string
		nonce    string
	}{
		"no directive for scripts":           {[]string{"img-src *; report-uri /r"}, []string{"img-src *; report-uri /r"}, "ours"},
		"empty":                              {[]string{""}, []string{""}, "ours"},
		"'self'":                             {[]string{"script-src 'self'"}, []string{"script-src 'self' 'nonce-ours'"}, "ours"},
		"beside a nonce":                     {[]string{"script-src 'self' 'nonce-abc='"}, []string{"script-src 'self' 'nonce-abc=' 'nonce-ours'"}, "ours"},
		"nonce in upper case":                {[]string{"script-src 'NONCE-Abc'"}, []string{"script-src 'NONCE-Abc' 'nonce-ours'"}, "ours"},
		"our nonce is there":                 {[]string{"script-src 'nonce-ours'; style-src 'nonce-abc' 'nonce-ours'"}, []string{"script-src 'nonce-ours'; style-src 'nonce-abc' 'nonce-ours'"}, "ours"},
		"nonce that is none":                 {[]string{`script-src 'nonce-a"b'`}, []string{`script-src 'nonce-a"b' 'nonce-ours'`}, "ours"},
		"hash":                               {[]string{"script-src 'sha256-abc='"}, []string{"script-src 'sha256-abc=' 'nonce-ours'"}, "ours"},
		"'unsafe-inline' alone":              {[]string{"script-src 'self' 'unsafe-inline'"}, []string{"script-src 'self' 'unsafe-inline'"}, "ours"},
		"'unsafe-inline' with a nonce":       {[]string{"script-src 'unsafe-inline' 'nonce-abc'"}, []string{"script-src 'unsafe-inline' 'nonce-abc' 'nonce-ours'"}, "ours"},
		"'unsafe-inline' with a hash":        {[]string{"script-src 'unsafe-inline' 'sha384-abc'"}, []string{"script-src 'unsafe-inline' 'sha384-abc' 'nonce-ours'"}, "ours"},
		"'unsafe-inline' with no real hash":  {[]string{"script-src 'unsafe-inline' 'sha256-{hash}'"}, []string{"script-src 'unsafe-inline' 'sha256-{hash}'"}, "ours"},
		"'unsafe-inline' and strict-dynamic": {[]string{"script-src 'unsafe-inline' 'strict-dynamic'"}, []string{"script-src 'unsafe-inline' 'strict-dynamic' 'nonce-ours'"}, "ours"},
		"'none'":                             {[]string{"script-src 'none'"}, []string{"script-src 'nonce-ours'"}, "ours"},
		"'none' with others":                 {[]string{"script-src 'none' 'self'"}, []string{"script-src 'none' 'self' 'nonce-ours'"}, "ours"},
		"no source at all":                   {[]string{"img-src x; script-src ; style-src y"}, []string{"img-src x; script-src 'nonce-ours'; style-src y"}, "ours"},
		"strict-dynamic with nonce":          {[]string{"script-src 'strict-dynamic' 'nonce-abc'"}, []string{"script-src 'strict-dynamic' 'nonce-abc' 'nonce-ours'"}, "ours"},
		"script-src-elem rules":              {[]string{"script-src 'unsafe-inline'; script-src-elem 'self'"}, []string{"script-src 'unsafe-inline'; script-src-elem 'self' 'nonce-ours'"}, "ours"},
		"script-src-elem allows":             {[]string{"script-src-elem 'unsafe-inline'; script-src 'none'"}, []string{"script-src-elem 'unsafe-inline'; script-src 'none'"}, "ours"},
		"nonce of another directive":         {[]string{"script-src 'self'; style-src 'nonce-abc'"}, []string{"script-src 'self' 'nonce-ours'; style-src 'nonce-abc'"}, "ours"},
		"default-src":                        {[]string{"default-src 'self' https://cdn.example; img-src *"}, []string{"default-src 'self' https://cdn.example; img-src *; script-src 'self' https://cdn.example 'nonce-ours'"}, "ours"},
		"default-src 'none'":                 {[]string{"default-src 'none';"}, []string{"default-src 'none'; script-src 'nonce-ours'"}, "ours"},
		"default-src with nonce":             {[]string{"default-src 'nonce-abc'; img-src x"}, []string{"default-src 'nonce-abc'; img-src x; script-src 'nonce-abc' 'nonce-ours'"}, "ours"},
		"default-src 'unsafe-inline'":        {[]string{"default-src 'unsafe-inline'"}, []string{"default-src 'unsafe-inline'"}, "ours"},
		"upper case and odd white space":     {[]string{" Script-Src\t'SELF'  ;IMG-SRC *"}, []string{" Script-Src\t'SELF' 'nonce-ours';IMG-SRC *"}, "ours"},
		"the first of two counts":            {[]string{"script-src 'self'; script-src 'unsafe-inline'"}, []string{"script-src 'self' 'nonce-ours'; script-src 'unsafe-inline'"}, "ours"},
		"several headers":                    {[]string{"script-src 'self'", "default-src 'none'"}, []string{"script-src 'self' 'nonce-ours'", "default-src 'none'; script-src 'nonce-ours'"}, "ours"},
		"comma-joined":                       {[]string{"script-src 'self', default-src x,script-src 'nonce-ours'"}, []string{"script-src 'self' 'nonce-ours', default-src x; script-src x 'nonce-ours',script-src 'nonce-ours'"}, "ours"},
		"the page's nonce stays where it is": {[]string{"script-src 'self'", "script-src 'nonce-abc'"}, []string{"script-src 'self' 'nonce-ours'", "script-src 'nonce-abc' 'nonce-ours'"}, "ours"},
		"different nonces":                   {[]string{"script-src 'nonce-abc'", "script-src 'nonce-def'"}, []string{"script-src 'nonce-abc' 'nonce-ours'", "script-src 'nonce-def' 'nonce-ours'"}, "ours"},
		"sandbox that allows scripts":        {[]string{"sandbox allow-forms Allow-Scripts; script-src x"}, []string{"sandbox allow-forms Allow-Scripts; script-src x 'nonce-ours'"}, "ours"},
	} {
		t.Run(name, func(t *testing.T) {
			given := slices.Clone(test.in)
			e := exchange{
				header: http.Header{"Content-Type": {"text/html; charset=utf-8"}, cspHeader: test.in, cspHeader + "-Report-Only": {"script-src 'none'"}},
				chunks: []string{"<head>x"},
				opts:   Options{Nonce: func() string { return "ours" }},
			}
			got := e.run(t)
			if have := got.Header()[cspHeader]; !slices.Equal(have, test.want) {
				t.Errorf("got  %q\nwant %q", have, test.want)
			}
			if !slices.Equal(test.in, given) {
				t.Error("the upstream's slice was edited")
			}
			if want := "<head>" + string(appendTestScript(nil, test.nonce)) + "x"; got.body() != want {
				t.Errorf("got  %q\nwant %q", got.body(), want)
			}
			if got.Header().Get(cspHeader+"-Report-Only") != "script-src 'none'" {
				t.Error("report-only policy changed")
			}
		})
	}
}

func TestSandboxIsLeftAlone(t *testing.T) {
	h := htmlHeader.Clone()
	h.Set(cspHeader, "sandbox allow-forms; script-src 'self'")
	h.Set("Etag", `"x"`)
	got := exchange{header: h, chunks: []string{"<head>x"}, opts: Options{Nonce: func() string { t.Error("nonce made"); return "n" }}}.run(t)
	if got.outcome != CSP || got.body() != "<head>x" || got.Header().Get(cspHeader) != h.Get(cspHeader) || got.Header().Get("Etag") == "" {
		t.Errorf("%s, %q, %v", got.outcome, got.body(), got.Header())
	}
}

func TestPagesWithoutPolicyGetOurNonce(t *testing.T) {
	got := exchange{header: htmlHeader, chunks: []string{"<head>x"}, opts: Options{Nonce: func() string { return "ours" }}}.run(t)
	if want := "<head>" + string(appendTestScript(nil, "ours")) + "x"; got.body() != want {
		t.Errorf("got %q", got.body())
	}
	if _, set := got.Header()[cspHeader]; set {
		t.Error("a policy appeared")
	}
}

func TestLoaderRespectsPolicies(t *testing.T) {
	for name, test := range map[string]struct {
		policies []string
		nonce    string
		allowed  bool
	}{
		"none":                            {nil, "", true},
		"'self'":                          {[]string{"script-src 'self'"}, "", true},
		"anything":                        {[]string{"default-src *"}, "", true},
		"scheme":                          {[]string{"script-src https:"}, "", true},
		"own host":                        {[]string{"script-src https://shop.example"}, "", true},
		"own host, bare":                  {[]string{"script-src SHOP.example/"}, "", true},
		"own host, wildcard":              {[]string{"script-src *.example"}, "", true},
		"own host with a path":            {[]string{"script-src https://shop.example/js/"}, "", false},
		"other host":                      {[]string{"script-src https://cdn.example"}, "", false},
		"'none'":                          {[]string{"script-src 'none'"}, "", false},
		"inline does not help":            {[]string{"script-src 'unsafe-inline'"}, "", false},
		"'self' and strict-dynamic":       {[]string{"script-src 'self' 'strict-dynamic'"}, "", false},
		"nonce and strict-dynamic":        {[]string{"script-src 'nonce-abc' 'strict-dynamic'"}, "abc", true},
		"'self' beside a nonce elsewhere": {[]string{"script-src 'self', script-src 'nonce-abc'"}, "abc", true},
		"the nonce that both have":        {[]string{"script-src 'nonce-a' 'nonce-b'", "script-src 'nonce-b'"}, "b", true},
		"different nonces":                {[]string{"script-src 'nonce-a'", "script-src 'nonce-b'"}, "", false},
		"sandbox":                         {[]string{"sandbox"}, "", false},
		"elem rules":                      {[]string{"script-src 'self'; script-src-elem x"}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			h := header("Content-Type", "text/html; charset=utf-8", "Etag", `"x"`, "Cache-Control", "public, max-age=60")
			for _, p := range test.policies {
				h.Add(cspHeader, p)
			}
			want := h.Clone()
			got := exchange{header: h, chunks: []string{"<head>x"}, opts: Options{
				Cacheable: true,
				Nonce:     func() string { t.Error("nonce made"); return "ours" },
			}}.run(t)
			for k, v := range want {
				if !slices.Equal(got.Header()[k], v) {
					t.Errorf("%s = %q, want %q", k, got.Header()[k], v)
				}
			}
			body, outcome := "<head>x", CSP
			if test.allowed {
				body, outcome = "<head>"+string(appendTestScript(nil, test.nonce))+"x", Injected
			}
			if got.body() != body || got.outcome != outcome {
				t.Errorf("%s, %q; want %s, %q", got.outcome, got.body(), outcome, body)
			}
		})
	}
}
