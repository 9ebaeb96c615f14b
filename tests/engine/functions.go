package engine

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// value is what an expression of a template is worth.
type value struct {
	kind kind
	// text is the value, or for a missing parameter its name.
	text string
}

type kind int

const (
	missing kind = iota // a parameter that the request does not have
	text
	number
	truth
	raw // SQL as it stands
)

func boolean(b bool) value { return value{kind: truth, text: strconv.FormatBool(b)} }

func (v value) truth() bool {
	switch v.kind {
	case missing:
		return false
	case truth:
		return v.text == "true"
	case number:
		return strings.Trim(v.text, "-0.") != ""
	default:
		return v.text != ""
	}
}

// sql is the value as it stands in a query: strings quoted and escaped, the
// way Tinybird escapes them.
func (v value) sql() (string, error) {
	switch v.kind {
	case missing:
		return "", fmt.Errorf("parameter %s is not defined", v.text)
	case text:
		return quote(v.text), nil
	default:
		return v.text, nil
	}
}

var escapes = strings.NewReplacer("\x00", `\0`, "\r", `\r`, "\b", `\b`, "\t", `\t`, "\x1a", `\z`, "\n", `\n`,
	`"`, `\"`, "'", `\'`, `\`, `\\`, "%", `\%`, "`", "\\`")

func quote(s string) string { return "'" + escapes.Replace(s) + "'" }

type arguments struct {
	positional []value
	named      map[string]value
}

// given returns the parameter that the function reads: what the request has,
// else the default, which stands at that position or has that name.
func (a arguments) given(at int) (value, error) {
	if len(a.positional) == 0 {
		return value{}, errors.New("no parameter")
	}
	v := a.positional[0]
	if v.kind == missing {
		fallback, ok := a.named["default"]
		if !ok && len(a.positional) > at {
			fallback, ok = a.positional[at], true
		}
		if !ok {
			return value{}, fmt.Errorf("parameter %s is required and not defined", v.text)
		}
		v = fallback
	}
	return v, nil
}

// functions are the template functions that pipes may use here.
var functions = map[string]func(arguments) (value, error){
	"String": func(a arguments) (value, error) {
		v, err := a.given(1)
		return value{kind: text, text: v.text}, err
	},
	"Boolean": func(a arguments) (value, error) {
		v, err := a.given(1)
		if err != nil || v.text == "0" || strings.EqualFold(v.text, "false") || v.text == "" {
			return value{kind: raw, text: "0"}, err
		}
		return value{kind: raw, text: "1"}, nil
	},
	"Date":       timeOf(`^\d{4}-\d\d-\d\d$`),
	"DateTime":   timeOf(`^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\dZ?$`),
	"DateTime64": timeOf(`^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\.\d{1,9}Z?$`),
	"Int8":       wholeOf("Int8", 8, true),
	"Int16":      wholeOf("Int16", 16, true),
	"Int32":      wholeOf("Int32", 32, true),
	"Int64":      wholeOf("Int64", 64, true),
	"UInt8":      wholeOf("UInt8", 8, false),
	"UInt16":     wholeOf("UInt16", 16, false),
	"UInt32":     wholeOf("UInt32", 32, false),
	"UInt64":     wholeOf("UInt64", 64, false),
	"Float32":    fractionOf("Float32"),
	"Float64":    fractionOf("Float64"),
	"Array":      array,
	"column": func(a arguments) (value, error) {
		v, err := a.given(1)
		return value{kind: raw, text: identifier(v.text)}, err
	},
	"columns": func(a arguments) (value, error) {
		v, err := a.given(1)
		names := strings.Split(v.text, ",")
		for i, name := range names {
			names[i] = identifier(strings.TrimSpace(name))
		}
		return value{kind: raw, text: strings.Join(names, ",")}, err
	},
	"defined": func(a arguments) (value, error) {
		return boolean(len(a.positional) == 1 && a.positional[0].kind != missing), nil
	},
	"error": func(a arguments) (value, error) {
		v, err := a.given(1)
		if err != nil {
			return value{}, err
		}
		return value{}, errors.New(v.text)
	},
}

func identifier(name string) string {
	parts := strings.Split(name, ".")
	for i, part := range parts {
		parts[i] = "`" + strings.ReplaceAll(escapes.Replace(part), `\"`, "") + "`"
	}
	return strings.Join(parts, ".")
}

func timeOf(pattern string) func(arguments) (value, error) {
	layout := regexp.MustCompile(pattern)
	return func(a arguments) (value, error) {
		v, err := a.given(1)
		if err == nil && !layout.MatchString(v.text) {
			err = fmt.Errorf("%q is not of its type", v.text)
		}
		return value{kind: text, text: v.text}, err
	}
}

func wholeOf(name string, bits int, signed bool) func(arguments) (value, error) {
	return func(a arguments) (value, error) {
		v, err := a.given(1)
		if err != nil {
			return value{}, err
		}
		if signed {
			_, err = strconv.ParseInt(v.text, 10, bits)
		} else {
			_, err = strconv.ParseUint(v.text, 10, bits)
		}
		if err != nil {
			return value{}, fmt.Errorf("%q is not of type %s", v.text, name)
		}
		return value{kind: raw, text: "to" + name + "('" + v.text + "')"}, nil
	}
}

func fractionOf(name string) func(arguments) (value, error) {
	return func(a arguments) (value, error) {
		v, err := a.given(1)
		if err != nil {
			return value{}, err
		}
		if _, err := strconv.ParseFloat(v.text, 64); err != nil {
			return value{}, fmt.Errorf("%q is not of type %s", v.text, name)
		}
		return value{kind: raw, text: "to" + name + "('" + v.text + "')"}, nil
	}
}

// array takes a parameter whose items are separated by commas, and the type of
// the items: Array(ids, 'String').
func array(a arguments) (value, error) {
	v, err := a.given(2)
	if err != nil {
		return value{}, err
	}
	item := "String"
	if len(a.positional) > 1 {
		item = a.positional[1].text
	}
	items := strings.Split(v.text, ",")
	for i, s := range items {
		if item == "String" {
			items[i] = quote(s)
			continue
		}
		if _, err := strconv.ParseFloat(s, 64); err != nil {
			return value{}, fmt.Errorf("%q is not of type %s", s, item)
		}
	}
	return value{kind: raw, text: "[" + strings.Join(items, ",") + "]"}, nil
}
