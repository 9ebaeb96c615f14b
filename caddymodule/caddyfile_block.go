package caddymodule

import (
	"sort"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// block reads one block of Caddyfile options. Every error it makes names the
// file and line, what was found and what is wanted.
type block struct {
	d     *caddyfile.Dispenser
	name  string // of the directive, for errors
	lines map[string]int
}

func newBlock(d *caddyfile.Dispenser, name string) *block {
	return &block{d: d, name: name, lines: map[string]int{}}
}

// option is how one option is read. The dispenser stands on its name.
type option func() error

// read reads the block's options. repeatable ones may stand more than once.
func (b *block) read(options map[string]option, repeatable ...string) error {
	for nesting := b.d.Nesting(); b.d.NextBlock(nesting); {
		name := b.d.Val()
		read, known := options[name]
		if !known && len(options) == 0 {
			return b.d.Errf("%s takes no options, '%s' was given", b.name, name)
		}
		if !known {
			return b.d.Errf("unknown option '%s' in %s: known are %s", name, b.name, knownNames(options))
		}
		if line, twice := b.lines[name]; twice && !contains(repeatable, name) {
			return b.d.Errf("%s stands twice in %s, first in line %d: keep one", name, b.name, line)
		}
		b.lines[name] = b.d.Line()
		if err := read(); err != nil {
			return err
		}
	}
	return nil
}

func knownNames(options map[string]option) string {
	names := make([]string, 0, len(options))
	for n := range options {
		names = append(names, n)
	}
	sort.Strings(names)
	return strings.Join(names, ", ")
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// text reads exactly one argument.
func (b *block) text(to *string) option {
	return func() error {
		name := b.d.Val()
		if !b.d.NextArg() {
			return b.d.Errf("%s wants one value and has none", name)
		}
		*to = b.d.Val()
		if *to == "" {
			return b.d.Errf("%s has an empty value: give one, or leave the line out", name)
		}
		return b.end(name)
	}
}

// checked reads one argument that has to pass a check.
func (b *block) checked(to *string, check func(string) error) option {
	return func() error {
		if err := b.text(to)(); err != nil {
			return err
		}
		if err := check(*to); err != nil {
			return b.d.WrapErr(err)
		}
		return nil
	}
}

func (b *block) id(name string, to *string) option {
	return b.checked(to, func(s string) error { return checkID(name, s) })
}

func (b *block) choice(name string, to *string, known ...string) option {
	return b.checked(to, func(s string) error {
		_, err := choice(name, s, known...)
		return err
	})
}

// end refuses arguments after the last that the option takes.
func (b *block) end(name string) error {
	if b.d.NextArg() {
		return b.d.Errf("%s has one argument too many: '%s'", name, b.d.Val())
	}
	return nil
}

func (b *block) duration(to *caddy.Duration) option {
	return func() error {
		name := b.d.Val()
		var s string
		if err := b.text(&s)(); err != nil {
			return err
		}
		v, err := caddy.ParseDuration(s)
		if err != nil || v <= 0 {
			return b.d.Errf("%s '%s' is not a positive duration like 30m, 12h or 30d", name, s)
		}
		*to = caddy.Duration(v)
		return nil
	}
}

// flag reads an option that stands alone.
func (b *block) flag(to *bool) option {
	return func() error {
		*to = true
		return b.end(b.d.Val())
	}
}

// onOff reads `on` or `off`.
func (b *block) onOff(to *bool) option {
	return func() error {
		name := b.d.Val()
		var s string
		if err := b.text(&s)(); err != nil {
			return err
		}
		switch s {
		case "on":
			*to = true
		case "off":
			*to = false
		default:
			return b.d.Errf("%s '%s' is neither on nor off", name, s)
		}
		return nil
	}
}

// count reads a whole number of at least 1.
func (b *block) count(name string, to *int) error {
	if !b.d.NextArg() {
		return b.d.Errf("%s is missing a number", name)
	}
	n, err := strconv.Atoi(b.d.Val())
	if err != nil || n < 1 {
		return b.d.Errf("%s '%s' is not a whole number of at least 1", name, b.d.Val())
	}
	*to = n
	return nil
}
