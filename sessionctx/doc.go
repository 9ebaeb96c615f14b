// Package sessionctx is the domain of the session layer: who a visitor is,
// how long a session lasts, which segment and variant it has, where it came
// from, what the page is told and which rows are written about it.
//
// Everything here is values and rules: functions from what a request brought,
// what the campaign says, a key ring and a point in time to a decision. There
// is no I/O, no clock and no HTTP server in it; time and randomness are
// handed in. It promises that an id, token or cookie that it accepts was made
// with the ring's keys, and that a first touch once decided never changes. It
// never takes a user id or a session id from a browser's word.
package sessionctx
