package schema

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

const sample = `# a comment
DESCRIPTION >
    Two lines
    of text.

TOKEN "in" APPEND
TOKEN out READ

SCHEMA >
    ` + "`at` DateTime64(3, 'UTC') `json:$.at`," + `
    ` + "`city` LowCardinality(Nullable(String)) `json:$.geo.city`," + `
    ` + "`n` Int16 `json:$.n` DEFAULT -1" + `

ENGINE "MergeTree"
ENGINE_PARTITION_KEY "toYYYYMM(at)"
ENGINE_SORTING_KEY "at, city"
ENGINE_TTL "toDateTime(at) + toIntervalDay(1)"
`

func TestParse(t *testing.T) {
	ds, err := Parse("sample", []byte(strings.ReplaceAll(sample, "\n", "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	want := []Column{
		{Name: "at", Path: []string{"at"}, Type: Type{Text: "DateTime64(3, 'UTC')", Family: Time}},
		{Name: "city", Path: []string{"geo", "city"}, Type: Type{Text: "LowCardinality(Nullable(String))", Family: String, Nullable: true, LowCardinality: true}},
		{Name: "n", Path: []string{"n"}, Type: Type{Text: "Int16", Family: Int, Bits: 16}, Default: "-1"},
	}
	if !reflect.DeepEqual(ds.Columns, want) {
		t.Errorf("columns %+v\nwant %+v", ds.Columns, want)
	}
	if ds.Description != "Two lines\nof text." {
		t.Errorf("description %q", ds.Description)
	}
	if want := []Token{{"in", "APPEND"}, {"out", "READ"}}; !reflect.DeepEqual(ds.Tokens, want) {
		t.Errorf("tokens %v", ds.Tokens)
	}
	if ds.Engine != "MergeTree" || ds.PartitionKey != "toYYYYMM(at)" || ds.SortingKey != "at, city" || !strings.HasPrefix(ds.TTL, "toDateTime(at)") {
		t.Errorf("engine %q %q %q %q", ds.Engine, ds.PartitionKey, ds.SortingKey, ds.TTL)
	}
}

func TestParseRefuses(t *testing.T) {
	column := "`a` String `json:$.a`"
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":                     {"", "no SCHEMA"},
		"an empty schema":             {"SCHEMA >\n", "no SCHEMA"},
		"an unknown setting":          {"SCHEMA >\n " + column + "\nENGINE_VAR \"x\"", "line 3: unknown setting ENGINE_VAR"},
		"an unknown block":            {"SCHEMAS >\n " + column, "line 1: unknown block SCHEMAS"},
		"a setting twice":             {"ENGINE \"a\"\nENGINE \"b\"", "line 2: ENGINE a second time"},
		"a setting without quotes":    {"ENGINE MergeTree", "line 1: ENGINE needs a quoted value"},
		"a column twice":              {"SCHEMA >\n " + column + ",\n " + column, "line 3: column a a second time"},
		"a path twice":                {"SCHEMA >\n " + column + ",\n `b` String `json:$.a`", "path $.a is taken"},
		"a path inside a column":      {"SCHEMA >\n " + column + ",\n `b` String `json:$.a.b`", "path $.a is taken"},
		"a column where an object is": {"SCHEMA >\n `b` String `json:$.a.b`,\n " + column, "path $.a is taken"},
		"no comma":                    {"SCHEMA >\n " + column + "\n `b` String `json:$.b`", "line 3: no comma"},
		"a comma too many":            {"SCHEMA >\n " + column + ",\n", "a comma after the last"},
		"a column without a path":     {"SCHEMA >\n `a` String", "line 2: column"},
		"a path of the whole row":     {"SCHEMA >\n `a` String `json:$`", "has no json:$. before it"},
		"a path into an array":        {"SCHEMA >\n `a` String `json:$.a[:]`", "plain names"},
		"an odd column name":          {"SCHEMA >\n `a-b` String `json:$.a`", "plain name"},
		"an unknown type":             {"SCHEMA >\n `a` Strng `json:$.a`", "Strng"},
		"an array":                    {"SCHEMA >\n `a` Array(String) `json:$.a`", "Array(String)"},
		"an open wrapper":             {"SCHEMA >\n `a` Nullable(String `json:$.a`", "Nullable(String"},
		"wrappers the wrong way":      {"SCHEMA >\n `a` Nullable(LowCardinality(String)) `json:$.a`", "not one that rows use"},
		"a time of low cardinality":   {"SCHEMA >\n `a` LowCardinality(DateTime64(3, 'UTC')) `json:$.a`", "LowCardinality"},
		"another precision":           {"SCHEMA >\n `a` DateTime64(6, 'UTC') `json:$.a`", "DateTime64(6"},
		"a default without a value":   {"SCHEMA >\n `a` String `json:$.a` DEFAULT ", "not a DEFAULT"},
		"a codec":                     {"SCHEMA >\n `a` String `json:$.a` CODEC(ZSTD)", "not a DEFAULT"},
		"a token without a scope":     {"TOKEN a", "a token needs"},
		"a token of all scopes":       {"TOKEN a ADMIN", "a token needs"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("x", []byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if !strings.Contains(err.Error(), "datasource x") {
				t.Fatalf("%v does not name the datasource", err)
			}
		})
	}
}

func TestParseRefusesMoreKeysThanAPlanHolds(t *testing.T) {
	var b strings.Builder
	b.WriteString("SCHEMA >\n")
	for i := range maxNodes + 1 {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, "    `c%d` String `json:$.c%d`", i, i)
	}
	if _, err := Parse("x", []byte(b.String())); err == nil {
		t.Fatal("no error")
	}
}

// Whatever parses can be checked, and says of each column where it is.
func FuzzParse(f *testing.F) {
	f.Add(sample)
	for _, name := range names {
		text, err := os.ReadFile("datasources/" + name + ".datasource")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		ds, err := Parse("x", []byte(text))
		if err != nil {
			return
		}
		if len(ds.Columns) == 0 {
			t.Fatal("parsed without columns")
		}
		required := false
		for _, c := range ds.Columns {
			if len(c.Path) == 0 || c.Name == "" || c.Type.Family == 0 || c.Type.Text == "" {
				t.Fatalf("incomplete column %+v", c)
			}
			required = required || c.Default == ""
		}
		if err := ds.Check([]byte("{}")); (err != nil) != required {
			t.Fatalf("an empty row gives %v", err)
		}
	})
}
