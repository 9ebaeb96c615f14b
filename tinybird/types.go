package schema

import (
	"fmt"
	"strconv"
	"strings"
)

// Family is the kind of JSON value that a column takes.
type Family uint8

// The families of the types that our datasources use.
const (
	String Family = iota + 1 // a string
	Uint                     // a whole number from 0
	Int                      // a whole number
	Float                    // a finite number
	Time                     // a string in TimeLayout, UTC
)

// String returns the family's name in an error message.
func (f Family) String() string {
	switch f {
	case String:
		return "a string"
	case Uint, Int:
		return "a whole number"
	case Float:
		return "a number"
	case Time:
		return "a time"
	default:
		return "nothing"
	}
}

// TimeLayout is the one layout of times in rows, always in UTC. Tinybird reads
// others too, but not all of them the same way in every version.
const TimeLayout = "2006-01-02T15:04:05.000Z"

// Type is a column's type.
type Type struct {
	// Text is the type as the file writes it.
	Text   string
	Family Family
	// Bits is the width of a number: 8, 16, 32 or 64. Zero for other families.
	Bits           int
	Nullable       bool
	LowCardinality bool
}

// scalars are the types that can stand inside Nullable and LowCardinality.
// There is no DateTime64 of another precision, since TimeLayout has three
// digits, and no type that our rows do not need.
var scalars = map[string]Type{
	"String":              {Family: String},
	"DateTime64(3,'UTC')": {Family: Time},
	"UInt8":               {Family: Uint, Bits: 8},
	"UInt16":              {Family: Uint, Bits: 16},
	"UInt32":              {Family: Uint, Bits: 32},
	"UInt64":              {Family: Uint, Bits: 64},
	"Int8":                {Family: Int, Bits: 8},
	"Int16":               {Family: Int, Bits: 16},
	"Int32":               {Family: Int, Bits: 32},
	"Int64":               {Family: Int, Bits: 64},
	"Float32":             {Family: Float, Bits: 32},
	"Float64":             {Family: Float, Bits: 64},
}

// parseType reads a type such as LowCardinality(Nullable(String)). ClickHouse
// allows the wrappers in that order only, and each once.
func parseType(text string) (Type, error) {
	inner := strings.ReplaceAll(text, " ", "")
	var low, nullable bool
	if s, ok := unwrap(inner, "LowCardinality"); ok {
		low, inner = true, s
	}
	if s, ok := unwrap(inner, "Nullable"); ok {
		nullable, inner = true, s
	}
	t, ok := scalars[inner]
	if !ok {
		return Type{}, fmt.Errorf("type %q is not one that rows use", text)
	}
	if low && t.Family == Time {
		return Type{}, fmt.Errorf("type %q: a time cannot be LowCardinality", text)
	}
	t.Text, t.LowCardinality, t.Nullable = text, low, nullable
	return t, nil
}

// unwrap returns X of wrapper(X).
func unwrap(text, wrapper string) (string, bool) {
	s, ok := strings.CutPrefix(text, wrapper+"(")
	if !ok {
		return text, false
	}
	return strings.CutSuffix(s, ")")
}

// want says in an error message what the type takes.
func (t Type) want() string {
	var s string
	switch t.Family {
	case Time:
		s = "a time as " + TimeLayout + ", from 2000 to 2299"
	case Uint:
		s = "a whole number from 0 to " + strconv.FormatUint(t.maxUint(), 10)
	case Int:
		s = "a whole number of " + strconv.Itoa(t.Bits) + " bits"
	case Float:
		s = "a finite number of " + strconv.Itoa(t.Bits) + " bits"
	default:
		s = t.Family.String()
	}
	return s
}

// maxUint is the largest value of an unsigned type.
func (t Type) maxUint() uint64 { return ^uint64(0) >> (64 - t.Bits) }
