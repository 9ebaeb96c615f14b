// Package inject puts one script element into an HTML page while the page
// streams by.
//
// It owns the question where in a document the element goes, and everything
// about an HTTP answer that has to change with it: length, validators, cache
// rules, content encoding, declared character encoding and Content Security
// Policy. It promises that the tree a browser builds is the original one plus
// one script, first in head; that an answer it does not inject into goes out
// byte for byte as it came, with the reason known; that no more than 64 KiB
// are ever held back, and no more than 8 KiB once the place is found: the
// beginning of a page of known length, which goes out with what follows, or at
// once if anybody flushes.
//
// It never decides what the script says or who gets one, never buffers a whole
// page, never recovers a panic, never forces a status that nobody wrote, and
// knows nothing of Caddy: net/http and io only.
package inject
