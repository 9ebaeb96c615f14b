package caddymodule

import (
	"encoding/json"
	"math"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/dustin/go-humanize"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("session_context", parseGlobalOption)
}

// parseGlobalOption sets up the app from Caddyfile tokens:
//
//	session_context {
//		store     <module> …
//		sink      <module> …
//		outbox {
//			path     <directory>
//			max_disk <size>
//			overflow refuse|drop_oldest
//		}
//		keys {
//			rotate   <duration>
//			reread   <duration>
//		}
//		geo       <module> …
//		eu_includes      <eea|country...>
//		bots {
//			verify            on|off
//			resolver          <host:port>
//			datacenters       <file>
//			corporate_proxies <file>
//		}
//		click_ids        add|replace <name...> | none
//		ignore_referrers add|replace <domain...> | none
//		url_params       keep <name...>
//		heap_reserve     <size>|off
//	}
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // the option's name
	if existing != nil {
		return nil, d.Err("session_context stands twice among the global options: put both blocks into one")
	}
	if d.NextArg() {
		return nil, d.Errf("session_context takes no argument, '%s' was given: options go into its block", d.Val())
	}
	app := &App{}
	b := newBlock(d, "session_context")
	sinks := map[string]int{}
	check := func() error {
		_, err := app.newReader()
		return err
	}
	err := b.read(map[string]option{
		"store": func() error {
			raw, err := guest(d, "session_context.stores", "store")
			app.StoreRaw = raw
			return err
		},
		"sink": func() error { return app.parseSink(d, sinks) },
		"geo": func() error {
			raw, err := guest(d, "session_context.geo", "source")
			app.GeoRaw = append(app.GeoRaw, raw)
			return err
		},
		"eu_includes": func() error {
			if app.EUIncludes = d.RemainingArgs(); len(app.EUIncludes) == 0 {
				return d.Err("eu_includes wants at least one: eea, or two-letter codes of countries like gb and ch")
			}
			if err := check(); err != nil {
				return d.WrapErr(err)
			}
			return nil
		},
		"bots": func() error {
			app.Bots = &Bots{}
			return parseBots(d, app.Bots)
		},
		"click_ids":        b.names(&app.ClickIDs, check),
		"ignore_referrers": b.names(&app.IgnoreReferrers, check),
		"url_params":       func() error { return parseURLParams(d, app) },
		"heap_reserve": func() error {
			var s string
			if err := b.text(&s)(); err != nil {
				return err
			}
			n, err := uint64(0), error(nil)
			if s != "off" {
				n, err = humanize.ParseBytes(s)
			}
			reserve := int64(min(n, math.MaxInt64))
			if err != nil || checkHeapReserve(reserve) != nil {
				return d.Errf("heap_reserve '%s' is neither off nor a size up to 1GiB, like 16MiB", s)
			}
			app.HeapReserve = &reserve
			return nil
		},
		"outbox": func() error {
			app.Outbox = &Outbox{}
			return parseOutbox(d, app.Outbox)
		},
		"keys": func() error {
			app.Keys = &Keys{}
			kb := newBlock(d, "keys")
			if err := kb.end("keys"); err != nil {
				return err
			}
			checked := func(to *caddy.Duration, check func(time.Duration) error) option {
				return func() error {
					if err := kb.duration(to)(); err != nil {
						return err
					}
					if err := check(time.Duration(*to)); err != nil {
						return d.WrapErr(err)
					}
					return nil
				}
			}
			return kb.read(map[string]option{
				"rotate": checked(&app.Keys.Rotate, checkRotate),
				"reread": checked(&app.Keys.Reread, checkReread),
			})
		},
	}, "sink", "geo")
	if err != nil {
		return nil, err
	}
	return httpcaddyfile.App{
		Name:  appName,
		Value: caddyconfig.JSON(app, nil),
	}, nil
}

// guest reads `<option> <module> …`: the rest is the module's own.
func guest(d *caddyfile.Dispenser, namespace, key string) (json.RawMessage, error) {
	option := d.Val()
	if !d.NextArg() {
		return nil, d.Errf("%s wants a module's name: known are %s", option, knownGuests(namespace))
	}
	name := d.Val()
	if _, err := caddy.GetModule(namespace + "." + name); err != nil {
		return nil, d.Errf("%s '%s' is unknown: known are %s", option, name, knownGuests(namespace))
	}
	mod, err := caddyfile.UnmarshalModule(d, namespace+"."+name)
	if err != nil {
		return nil, err
	}
	return caddyconfig.JSONModuleObject(mod, key, name, nil), nil
}

func knownGuests(namespace string) string {
	names := map[string]option{}
	for _, m := range caddy.GetModules(namespace) {
		names[m.ID.Name()] = nil
	}
	return knownNames(names)
}

func parseOutbox(d *caddyfile.Dispenser, o *Outbox) error {
	b := newBlock(d, "outbox")
	if err := b.end("outbox"); err != nil {
		return err
	}
	return b.read(map[string]option{
		"path": b.text(&o.Path),
		"max_disk": func() error {
			var s string
			if err := b.text(&s)(); err != nil {
				return err
			}
			n, err := humanize.ParseBytes(s)
			if err != nil || n < minMaxDisk || n > 1<<50 {
				return d.Errf("max_disk '%s' is not a size of at least 32MiB, like 2GiB", s)
			}
			o.MaxDisk = int64(n)
			return nil
		},
		"overflow": b.choice("overflow", &o.Overflow, "refuse", "drop_oldest"),
	})
}
