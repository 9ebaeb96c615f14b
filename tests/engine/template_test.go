package engine

import (
	"strings"
	"testing"
)

// The forms are those of Tinybird's page on template functions; what they
// render to is what its command line's own renderer gives.
func TestTemplates(t *testing.T) {
	for _, test := range []struct {
		name, template string
		parameters     map[string]string
		want           string
	}{
		{"plain SQL stays", "SELECT {a: 1} AS x", nil, "SELECT {a: 1} AS x"},
		{"a string is quoted", "{{String(country)}}", map[string]string{"country": "DE"}, "'DE'"},
		{"an empty string is a string", "{{String(country, 'DE')}}", map[string]string{"country": ""}, "''"},
		{"a default stands second", "{{ String(country, 'DE') }}", nil, "'DE'"},
		{"or has its name", "{{String(country, default='DE')}}", nil, "'DE'"},
		{"words about a parameter render nothing", "{{String(c, description='Where, from?', required=True)}}", map[string]string{"c": "x"}, "'x'"},
		{"quotes cannot end a string", "{{String(x)}}", map[string]string{"x": `a'b"c\d` + "`%"}, `'a\'b\"c\\d` + "\\`\\%'"},
		{"nor can line ends and zero bytes", "{{String(x)}}", map[string]string{"x": "a\nb\tc\rd\x00"}, `'a\nb\tc\rd\0'`},
		{"whole numbers have their type", "{{Int32(n, 30)}}", nil, "toInt32('30')"},
		{"and are taken from the request", "{{UInt8(n, 0)}}", map[string]string{"n": "1"}, "toUInt8('1')"},
		{"fractions too", "{{Float32(n, 6)}}", nil, "toFloat32('6')"},
		{"a time is a string", "{{DateTime64(t)}}", map[string]string{"t": "2026-03-01 00:00:00.000"}, "'2026-03-01 00:00:00.000'"},
		{"a time without ms is a DateTime", "{{DateTime(t)}}", map[string]string{"t": "2026-03-01 00:00:00"}, "'2026-03-01 00:00:00'"},
		{"a date", "{{Date(t, '2026-03-01')}}", nil, "'2026-03-01'"},
		{"booleans are numbers", "{{Boolean(b, 'true')}}{{Boolean(c, 0)}}", map[string]string{"b": "FALSE"}, "00"},
		{"an array is split at commas", "{{Array(ids, 'String')}}", map[string]string{"ids": "a,b'c"}, `['a','b\'c']`},
		{"an array of numbers", "{{Array(ids, 'Int32', default='1,2')}}", nil, "[1,2]"},
		{"a column", "{{column(by, 'device_type')}}", nil, "`device_type`"},
		{"columns", "{{columns(by, 'a')}}", map[string]string{"by": "a, b.c"}, "`a`,`b`.`c`"},
		{"defined", "a{% if defined(x) %} AND x = {{String(x)}}{% end %}", map[string]string{"x": "1"}, "a AND x = '1'"},
		{"not defined", "a{% if defined(x) %} AND x = {{String(x)}}{% end %}", nil, "a"},
		{"else", "{% if defined(x) and not defined(y) %}1{% elif x == '2' or defined(z) %}2{% else %}3{% end %}",
			map[string]string{"x": "2", "y": ""}, "2"},
		{"the first branch that holds is the one", "{% if True %}1{% elif True %}2{% else %}3{% end %}", nil, "1"},
		{"inside a branch that is left out nothing is evaluated", "{% if defined(x) %}{% if defined(y) %}{{error('no')}}{% else %}{{String(x)}}{% end %}{% end %}", nil, ""},
		{"a missing parameter equals nothing", "{% if x == 'x' %}1{% else %}2{% end %}", nil, "2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Render(test.template, test.parameters)
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestTemplatesThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		name, template string
		parameters     map[string]string
		want           string
	}{
		{"a parameter that is required", "{{String(workspaceId, required=True)}}", nil, "workspaceId is required"},
		{"a number that is none", "{{Int32(n)}}", map[string]string{"n": "1; DROP"}, "not of type Int32"},
		{"a number out of range", "{{UInt8(n)}}", map[string]string{"n": "256"}, "not of type UInt8"},
		{"a fraction that is none", "{{Float64(n)}}", map[string]string{"n": "x"}, "not of type Float64"},
		{"a time that is none", "{{DateTime64(t)}}", map[string]string{"t": "yesterday"}, "not of its type"},
		{"an array with something else", "{{Array(n, 'Int32')}}", map[string]string{"n": "1,x"}, "not of type Int32"},
		{"an error of the pipe's own", "{% if not defined(x) %}{{error('x, please')}}{% end %}", nil, "x, please"},
		{"a function that nobody tested", "{{day_diff(a, b)}}", nil, "day_diff"},
		{"a statement that nobody tested", "{% for x in y %}{% end %}", nil, "for x in y"},
		{"a parameter without its type", "{{x}}", nil, "x is not defined"},
		{"a branch that stays open", "{% if True %}", nil, "{% end %}"},
		{"an end without a beginning", "{% end %}", nil, "{% end %}"},
		{"a string that stays open", "{{String('x)}}", nil, `"'"`},
		{"an expression that stays open", "{{String(x)", nil, "does not end"},
		{"something after the expression", "{{String('x') 1}}", nil, `"1"`},
		{"a call that stays open", "{{String('x'}}", nil, "String"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Render(test.template, test.parameters)
			if err == nil {
				t.Fatalf("rendered %q", got)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error %q does not say %q", err, test.want)
			}
		})
	}
}

// FuzzRender: whatever a request has for a parameter stays one string literal.
func FuzzRender(f *testing.F) {
	f.Add("{{String(x)}}", "it's")
	f.Add("{% if defined(x) %}{{Int32(x, 1)}}{% end %}", "1")
	f.Add("{{Array(x, 'String')}}{{columns(x)}}", "a,`b")
	f.Fuzz(func(t *testing.T, template, x string) {
		_, _ = Render(template, map[string]string{"x": x})
		got, err := Render("{{String(x)}}", map[string]string{"x": x})
		if err != nil {
			t.Fatal(err)
		}
		inner := strings.TrimSuffix(strings.TrimPrefix(got, "'"), "'")
		for i := 0; i < len(inner); i++ {
			if inner[i] == '\\' {
				i++
			} else if inner[i] == '\'' {
				t.Fatalf("%q renders as %s", x, got)
			}
		}
	})
}
