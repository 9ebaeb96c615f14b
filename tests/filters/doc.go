// Package filters asks the engine of a blocker of ads and trackers what it
// would block of the URLs that pages request from the module. The rules are
// ours, in the manner of the lists that browsers' blockers come with: parts of
// URLs that are blocked on any site.
package filters
