//go:build !race

package visitor

// flood is how many different agents the cache has to stand.
const flood = 1_000_000
