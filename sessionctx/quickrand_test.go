package sessionctx

import "math/rand"

// oldRand is a seeded generator of the kind that testing/quick takes.
func oldRand(seed uint64) *rand.Rand { return rand.New(rand.NewSource(int64(seed))) }
