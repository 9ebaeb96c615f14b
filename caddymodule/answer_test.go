package caddymodule

import (
	"encoding/json"
	"testing"
)

func TestAnEventsAnswerIsWhatEncodingJSONMakesOfIt(t *testing.T) {
	for _, answer := range []tracked{{}, {Sequence: 1 << 62, Buffered: 7, Flushed: true}, {Sequence: -1}} {
		want, err := json.Marshal(success{true, answer})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := encode(success{true, answer}); string(got) != string(want) || err != nil {
			t.Errorf("%s (%v), want %s", got, err, want)
		}
	}
}
