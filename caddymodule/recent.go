package caddymodule

// recent remembers what was put into it last, in two generations: when the
// young one has size keys it becomes the old one, and what was old is
// forgotten. Its owner locks it.
type recent[K comparable, V any] struct {
	size       int
	young, old map[K]V
}

func newRecent[K comparable, V any](size int) recent[K, V] {
	return recent[K, V]{size: size, young: map[K]V{}}
}

func (r *recent[K, V]) get(k K) (V, bool) {
	if v, ok := r.young[k]; ok {
		return v, true
	}
	v, ok := r.old[k]
	return v, ok
}

// put reports whether k began a new generation.
func (r *recent[K, V]) put(k K, v V) (turned bool) {
	if turned = len(r.young) >= r.size; turned {
		r.old, r.young = r.young, map[K]V{}
	}
	r.young[k] = v
	return turned
}
