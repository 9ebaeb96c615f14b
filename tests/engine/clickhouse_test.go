package engine

import (
	"bytes"
	"fmt"
	"os"
	"testing"
)

// data is where the process's one ClickHouse keeps its tables.
var data string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	data = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// open returns a database of the test's own.
func open(t testing.TB) *ClickHouse {
	t.Helper()
	c, err := Open(data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestTablesAreMadeFromTheDatasourceFiles(t *testing.T) {
	c := open(t)
	for _, name := range c.set.Names() {
		ds, _ := c.set.Datasource(name)
		type column struct {
			Name string `json:"name"`
			Type string `json:"type"`
		}
		columns, err := Query[column](c, "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = '"+name+"' ORDER BY position")
		if err != nil {
			t.Fatal(err)
		}
		if len(columns) != len(ds.Columns) {
			t.Fatalf("%s has %d columns, the file %d", name, len(columns), len(ds.Columns))
		}
		for i, column := range columns {
			if want := ds.Columns[i]; column.Name != want.Name || column.Type != want.Type.Text {
				t.Errorf("%s: column %d is %v, the file says %s %s", name, i+1, column, want.Name, want.Type.Text)
			}
		}
	}
}

// The rows of the datasources' own tests, right in every column, arrive in the
// tables as they are; those that the check refuses do not.
func TestRowsArrive(t *testing.T) {
	c := open(t)
	for _, name := range c.set.Names() {
		row, err := os.ReadFile("../../tinybird/testdata/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		row = bytes.TrimSpace(row)
		if err := c.Insert(name, [][]byte{row, row}); err != nil {
			t.Fatal(err)
		}
		type count struct {
			Rows, IDs int
		}
		counts, err := Query[count](c, "SELECT count() AS Rows, uniqExact(row_id) AS IDs FROM "+name)
		if err != nil {
			t.Fatal(err)
		}
		if counts[0] != (count{2, 1}) {
			t.Errorf("%s: %+v", name, counts[0])
		}
		if err := c.Insert(name, [][]byte{[]byte(`{"timestamp":null}`)}); err == nil {
			t.Errorf("%s takes a row with nothing in it", name)
		}
	}
	type place struct {
		City    string `json:"city"`
		Browser string `json:"browser"`
		At      string `json:"timestamp"`
	}
	places, err := Query[place](c, "SELECT city, browser, timestamp FROM traffic_v1 LIMIT 1")
	if err != nil {
		t.Fatal(err)
	}
	if places[0].City == "" || places[0].Browser == "" || places[0].At == "" {
		t.Errorf("nested columns of traffic_v1 did not arrive: %+v", places[0])
	}
}
