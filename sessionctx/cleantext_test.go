package sessionctx

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestCleanText(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		max      int
		want     string
	}{
		{"nothing stays nothing", "", 10, ""},
		{"plain text stays as it is", "spring sale", 20, "spring sale"},
		{"plain text is cut to its cap", "spring sale", 6, "spring"},
		{"text of just the cap is not cut", "spring", 6, "spring"},
		{"letters of any language stay", "größe 尺寸 😀", 40, "größe 尺寸 😀"},
		{"a cut falls between characters", "aü", 2, "a"},
		{"a cut falls before an emoji that doesn't fit", "ab😀", 5, "ab"},
		{"a character that fits just so stays", "ab😀c", 6, "ab😀"},
		{"control characters go", "a\x00b\tc\nd\re\x1bf\x7fg", 20, "abcdefg"},
		{"C1 control characters go", "a\u0085b\u009bc", 20, "abc"},
		{"line and paragraph separators go", "a\u2028b\u2029c", 20, "abc"},
		{"broken UTF-8 goes", "a\xffb\xc3(c", 20, "ab(c"},
		{"a character cut in two goes", "ab\xf0\x9f\x98", 20, "ab"},
		{"encoded surrogates go", "a\xed\xa0\x80b", 20, "ab"},
		{"an overlong slash is no slash", "a\xc0\xafb", 20, "ab"},
		{"nothing fits into nothing", "abc", 0, ""},
		{"what goes does not count against the cap", "\x01\x02\x03ü", 2, "ü"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := CleanText(tt.in, tt.max); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzCleanText(f *testing.F) {
	f.Add("größe\x00\xff", 5)
	f.Add(strings.Repeat("😀", 100), 7)
	f.Fuzz(func(t *testing.T, s string, max int) {
		max &= 1023
		got := CleanText(s, max)
		if len(got) > max {
			t.Errorf("%d bytes, the cap is %d", len(got), max)
		}
		if !utf8.ValidString(got) {
			t.Errorf("%q is broken UTF-8", got)
		}
		if strings.ContainsFunc(got, unicode.IsControl) {
			t.Errorf("%q has control characters", got)
		}
		if again := CleanText(got, max); again != got {
			t.Errorf("cleaned twice it is %q, once %q", again, got)
		}
	})
}
