package outbox

import (
	"testing"
	"testing/synctest"
	"time"
)

// A mirror that is named no more still gets what was acknowledged while it was,
// though that lay in an open segment.
func TestAMirrorThatLeavesHasWhatCameWhileItWasThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second, later := &recorder{}, &recorder{answer: always(Retry(0, errTest))}, &recorder{}
		o := mirrored(t, newMemFS(), Options{}, first, second)
		appendRows(t, o, "events_v1", 0, 3)
		time.Sleep(100 * time.Millisecond)
		appendRows(t, o, "events_v1", 3, 6)
		setMirrors(t, o)
		time.Sleep(10 * time.Second)
		appendRows(t, o, "events_v1", 6, 9)
		time.Sleep(10 * time.Second)
		setMirrors(t, o, Mirror{Name: "m", Sink: later})
		time.Sleep(10 * time.Second)
		first.once(t, "the first", "events_v1", 0, 9)
		later.once(t, "the mirror, back again", "events_v1", 0, 6)
		mustClose(t, o)
	})
}
