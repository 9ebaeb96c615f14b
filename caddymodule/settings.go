package caddymodule

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

// maxSetting is how much of a setting an error shows, in bytes.
const maxSetting = 120

// differentSettings says which settings of two handlers, as JSON, differ and
// how; it is empty for equal ones. The order of keys makes no difference.
func differentSettings(a, b []byte) string {
	var x, y map[string]any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return "they can't be compared"
	}
	all := maps.Clone(x)
	maps.Copy(all, y)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if !reflect.DeepEqual(x[k], y[k]) {
			out = append(out, k+" is "+settingText(x, k)+" in one and "+settingText(y, k)+" in the other")
		}
	}
	return strings.Join(out, ", ")
}

func settingText(settings map[string]any, key string) string {
	v, set := settings[key]
	if !set {
		return "left out"
	}
	if ns, ok := v.(float64); ok && slices.Contains([]string{"session_duration", "attribution_window", "legacy_ids"}, key) {
		return shortDuration(time.Duration(ns))
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "something else"
	}
	text := sessionctx.CleanText(string(b), maxSetting)
	if len(text) < len(b) {
		text += "…"
	}
	return text
}
