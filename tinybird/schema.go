package schema

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
)

//go:embed datasources/*.datasource
var files embed.FS

// Set is the parsed datasources of the project. The zero Set is empty.
type Set struct {
	byName map[string]*Datasource
}

// Load parses the embedded datasource files. The work is done once a process;
// an error can only mean that a file in this directory is wrong.
func Load() (Set, error) { return load() }

var load = sync.OnceValues(func() (Set, error) {
	names, err := fs.Glob(files, "datasources/*.datasource")
	if err != nil {
		return Set{}, fmt.Errorf("listing embedded datasources: %w", err)
	}
	set := Set{byName: make(map[string]*Datasource, len(names))}
	for _, file := range names {
		text, err := files.ReadFile(file)
		if err != nil {
			return Set{}, fmt.Errorf("reading embedded datasource: %w", err)
		}
		name := strings.TrimSuffix(path.Base(file), ".datasource")
		ds, err := Parse(name, text)
		if err != nil {
			return Set{}, err
		}
		if err := ds.bind(referenceColumns[name], rulesFor(name)); err != nil {
			return Set{}, err
		}
		set.byName[name] = ds
	}
	return set, nil
})

// Datasource returns the datasource of that name.
func (s Set) Datasource(name string) (*Datasource, bool) {
	ds, ok := s.byName[name]
	return ds, ok
}

// Names returns the names of all datasources, sorted.
func (s Set) Names() []string {
	names := make([]string, 0, len(s.byName))
	for name := range s.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
