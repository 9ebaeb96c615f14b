package sessionctx

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
)

func parsed(tb testing.TB, text string) Body {
	tb.Helper()
	b, err := ParseBody([]byte(text))
	if err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	return b
}

func TestABodyIsOneJSONObject(t *testing.T) {
	for _, tt := range []struct {
		name, body, want string
	}{
		{"an empty object is one", `{}`, ""},
		{"blanks around it are taken", " \r\n\t{ \"a\" : 1 } \n", ""},
		{"unknown fields are taken", `{"x":{"y":[1,2,{}]}}`, ""},
		{"names that differ in case are different", `{"a":1,"A":2}`, ""},
		{"nothing is none", ``, "ends before"},
		{"blanks are none", "  ", "ends before"},
		{"null is none", `null`, "not a JSON object"},
		{"an array is none", `[{}]`, "not a JSON object"},
		{"a number is none", `12`, "not a JSON object"},
		{"text is none", `"{}"`, "not a JSON object"},
		{"one cut before its end is none", `{"a":1`, "ends before"},
		{"one cut in a name is none", `{"a`, "ends before"},
		{"one cut in a value is none", `{"a":"x`, "ends before"},
		{"one cut after a colon is none", `{"a":`, "ends before"},
		{"form data is none", `session_id=1&user_id=2`, "not valid JSON at byte 1"},
		{"single quotes are none", `{'a':1}`, "not valid JSON at byte"},
		{"a trailing comma is none", `{"a":1,}`, "not valid JSON"},
		{"a number with a leading zero is none", `{"a":01}`, "not valid JSON"},
		{"NaN is none", `{"a":NaN}`, "not valid JSON"},
		{"bare control characters are none", "{\"a\":\"x\ny\"}", "not valid JSON"},
		{"a byte order mark is none", "\ufeff{}", "not valid JSON"},
		{"two objects are one too many", `{}{}`, "text after"},
		{"text after it is too much", `{} x`, "text after"},
		{"a bracket after it is too much", `{}]`, "text after"},
		{"a name twice is refused", `{"token":"a","token":"b"}`, `"token" occurs twice`},
		{"a name twice by an escape is refused", `{"token":"a","\u0074oken":"b"}`, `"token" occurs twice`},
		{"a name twice among many is refused", `{` + manyFields(100) + `,"n17":0}`, `"n17" occurs twice`},
		{"the last of a few twice is refused", `{` + manyFields(fewFields) + `,"n31":0}`, `"n31" occurs twice`},
		{"many fields are taken", `{` + manyFields(100) + `}`, ""},
		{"one nested too deeply is none", `{"a":` + strings.Repeat("[", 20000), "not valid JSON"},
		{"one nested as deeply as can be is taken", `{"a":` + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1) + `}`, ""},
		{"one level more is too much", `{"a":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`, "not valid JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := ParseBody([]byte(tt.body))
			switch {
			case tt.want == "" && (err != nil || b == nil):
				t.Errorf("refused: %v", err)
			case tt.want != "" && err == nil:
				t.Errorf("taken as %v", b)
			case tt.want != "" && !strings.Contains(err.Error(), tt.want):
				t.Errorf("%q does not say %q", err, tt.want)
			}
		})
	}
}

// manyFields are n fields, n0 being the first.
func manyFields(n int) string {
	fields := make([]string, n)
	for i := range fields {
		fields[i] = fmt.Sprintf(`"n%d":%d`, i, i)
	}
	return strings.Join(fields, ",")
}

func TestABodysErrorQuotesNoValues(t *testing.T) {
	for _, body := range []string{`{"token":"s3cret`, `{"token":"s3cret"]`, `{"token":s3cret}`, `{"token":"s3cret"}"s3cret"`, `{"a":"s3cret","a":"s3cret"}`} {
		if _, err := ParseBody([]byte(body)); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestCoercionOfFields(t *testing.T) {
	type number struct {
		v  float64
		ok bool
	}
	type integer struct {
		v  int64
		ok bool
	}
	for _, tt := range []struct {
		name, value string
		text        string
		number      number
		integer     integer // of 0 … 100
	}{
		{"text", `"abc"`, "abc", number{}, integer{}},
		{"an empty text", `""`, "", number{}, integer{}},
		{"a text of blanks", `"  "`, "  ", number{}, integer{}},
		{"a number", `5`, "5", number{5, true}, integer{5, true}},
		{"a number as text", `"5"`, "5", number{5, true}, integer{5, true}},
		{"a number as text with blanks", `" 5.4 "`, " 5.4 ", number{5.4, true}, integer{5, true}},
		{"a fraction is rounded", `5.5`, "5.5", number{5.5, true}, integer{6, true}},
		{"a fraction below half is rounded down", `5.49`, "5.49", number{5.49, true}, integer{5, true}},
		{"a negative number is clamped", `-3`, "-3", number{-3, true}, integer{0, true}},
		{"a small negative fraction is clamped", `-0.4`, "-0.4", number{-0.4, true}, integer{0, true}},
		{"minus zero is zero", `-0`, "-0", number{math.Copysign(0, -1), true}, integer{0, true}},
		{"a large number is clamped", `101`, "101", number{101, true}, integer{100, true}},
		{"one just below the limit is rounded into it", `99.6`, "99.6", number{99.6, true}, integer{100, true}},
		{"a number with an exponent", `1e2`, "1e2", number{100, true}, integer{100, true}},
		{"a huge number is clamped", `1e300`, "1e300", number{1e300, true}, integer{100, true}},
		{"one that no float holds is none", `1e999`, "1e999", number{}, integer{}},
		{"a negative one that no float holds is none", `-1e999`, "-1e999", number{}, integer{}},
		{"one too small to tell from zero is zero", `1e-999`, "1e-999", number{0, true}, integer{0, true}},
		{"NaN as text is none", `"NaN"`, "NaN", number{}, integer{}},
		{"infinity as text is none", `"Infinity"`, "Infinity", number{}, integer{}},
		{"minus infinity as text is none", `"-inf"`, "-inf", number{}, integer{}},
		{"1e999 as text is none", `"1e999"`, "1e999", number{}, integer{}},
		{"text that begins with a number is none", `"5px"`, "5px", number{}, integer{}},
		{"a comma is no decimal point", `"5,5"`, "5,5", number{}, integer{}},
		{"true", `true`, "true", number{}, integer{}},
		{"false", `false`, "false", number{}, integer{}},
		{"null is missing", `null`, "", number{}, integer{}},
		{"an object is no text", `{"a":1}`, "", number{}, integer{}},
		{"an array is no text", `[1]`, "", number{}, integer{}},
		{"text is cleaned", `"a\u0000b\u2028c"`, "abc", number{}, integer{}},
		{"a lone surrogate is dropped", `"a\ud800b"`, "ab", number{}, integer{}},
		{"text is cut to its cap", `"abcdefghijklmnopq"`, "abcdefghijkl", number{}, integer{}},
		{"a long number's text is cut too", `1234567890123`, "123456789012", number{1234567890123, true}, integer{100, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := parsed(t, `{"f": `+tt.value+` }`)
			if got := b.Text("f", 12); got != tt.text {
				t.Errorf("as text %q, want %q", got, tt.text)
			}
			if v, ok := b.Number("f"); v != tt.number.v || ok != tt.number.ok {
				t.Errorf("as a number %v %v, want %v", v, ok, tt.number)
			}
			if v, ok := b.Integer("f", 100); v != tt.integer.v || ok != tt.integer.ok {
				t.Errorf("as an integer %v %v, want %v", v, ok, tt.integer)
			}
			if got, want := b.Has("f"), tt.value != "null"; got != want {
				t.Errorf("is there: %v", got)
			}
		})
	}
	t.Run("a missing field", func(t *testing.T) {
		var b Body
		_, isNumber := b.Number("f")
		if b.Has("f") || b.Text("f", 9) != "" || b.JSONText("f", 9) != "" || isNumber || b.Object("f") != nil {
			t.Error("is something")
		}
	})
	t.Run("a name in another case", func(t *testing.T) {
		if got := parsed(t, `{"F":"x"}`).Text("f", 9); got != "" {
			t.Errorf("gives %q", got)
		}
	})
}

func TestMetadataMayBeAnObject(t *testing.T) {
	for _, tt := range []struct {
		name, value, want string
	}{
		{"JSON text stays text", `"{\"a\":1}"`, `{"a":1}`},
		{"an object becomes its JSON text", `{ "a" : [ 1 , "x" ] }`, `{"a":[1,"x"]}`},
		{"an array does too", "[ 1,\n2 ]", `[1,2]`},
		{"a number becomes text", `7`, `7`},
		{"null is missing", `null`, ``},
		{"characters beyond ASCII stay", `{"a":"größe"}`, `{"a":"größe"}`},
		{"what is too long is cut", `["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]`, `["aaaaaaaaaaaaaaaaaa`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := parsed(t, `{"metadata":`+tt.value+`}`).JSONText("metadata", 20); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAnObjectWithinABodyIsReadAsStrictly(t *testing.T) {
	for name, value := range map[string]string{
		"text": `"{}"`, "an array": `[]`, "null": `null`, "a name twice": `{"a":1,"a":2}`,
	} {
		if got := parsed(t, `{"o":`+value+`}`).Object("o"); got != nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := parsed(t, `{"o":{"a":"x"}}`).Object("o").Text("a", 9); got != "x" {
		t.Errorf("got %q", got)
	}
}

func FuzzParseBody(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"a":2}`, `{"f":"\ud800"}`, `{"f":1e999}`, `{"f":{"f":[{}]}} `, `{"f":"NaN"}`,
		` { "\u0061\"" : [ 1 , "]" ] , "b":-1.5e3	,"c" : "\\" } `, `{"é":null,"":true}`, `{"a":1}x`, `[{}]`,
		`{"a":[-0.5E+10,1e-2,true,false,null,"\/\b\f\n\r\t",[],{}]}`, `{"a":[1.]}`, `{"a":-}`, `{"a":"\u12g4"}`, `{"a":tru}`, `{"a":1e}`, `{"a":[1,]}`, `{"a":{"b":1,}}`, "{\"a\":\"\x7f\xff\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := ParseBody(b)
		if (err == nil) != (body != nil) {
			t.Fatal("body and error, or neither")
		}
		if said := err != nil && (strings.HasPrefix(err.Error(), "body is not valid JSON") || strings.HasPrefix(err.Error(), "body ends") || strings.HasPrefix(err.Error(), "body has text")); said == json.Valid(b) {
			t.Fatalf("%q: encoding/json says valid: %v, and we %v", b, !said, err)
		}
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if json.Unmarshal(b, &want) != nil || want == nil {
			t.Fatalf("%q was taken", b)
		}
		if len(want) != len(body) {
			t.Fatalf("%q: fields %v, want %v", b, body, want)
		}
		for name, v := range want {
			if got := body.Raw(name); string(got) != string(v) {
				t.Fatalf("%q: field %q is %s, want %s", b, name, got, v)
			}
		}
		for name := range want {
			body.Has(name)
			if s := body.Text(name, 20); len(s) > 20 {
				t.Errorf("%d bytes of text", len(s))
			}
			if s := body.JSONText(name, 30); len(s) > 30 {
				t.Errorf("%d bytes of JSON text", len(s))
			}
			if v, ok := body.Number(name); ok && (math.IsNaN(v) || math.IsInf(v, 0)) {
				t.Errorf("%v passed as a number", v)
			}
			if v, ok := body.Integer(name, 100); ok && (v < 0 || v > 100) {
				t.Errorf("%v passed as 0 … 100", v)
			}
			body.Object(name)
		}
		ParseEvent(body, asIs)
	})
}
