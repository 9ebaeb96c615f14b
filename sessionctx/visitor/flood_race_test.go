//go:build race

package visitor

// flood is less where the race detector watches each access: the million takes
// minutes then, and shows it nothing more.
const flood = 30_000
