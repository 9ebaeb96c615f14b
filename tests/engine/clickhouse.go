package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/chdb-io/chdb-go/chdb"

	schema "github.com/firebuzz/caddy-sessionctx/tinybird"
)

// ClickHouse is one database with the project's tables. There can be one
// session a process, so all databases share it; a ClickHouse is not safe for
// concurrent use.
type ClickHouse struct {
	session  *chdb.Session
	set      schema.Set
	database string
}

var (
	// databases numbers them, as each needs a name of its own.
	databases int
	// using is the database that the process's session is in.
	using string
)

// Open makes a database in the process's ClickHouse and in it the tables of all
// datasources. dir is where the first Open puts the data; later ones share it.
func Open(dir string) (*ClickHouse, error) {
	set, err := schema.Load()
	if err != nil {
		return nil, err
	}
	session, err := chdb.NewSession(dir)
	if err != nil {
		return nil, fmt.Errorf("opening ClickHouse in %s: %w", dir, err)
	}
	databases++
	c := &ClickHouse{session: session, set: set, database: fmt.Sprintf("project_%d", databases)}
	using = c.database // so that the first statement, which makes it, can run
	if err := c.Exec("CREATE DATABASE " + c.database); err != nil {
		return nil, err
	}
	using = ""
	for _, name := range set.Names() {
		ds, _ := set.Datasource(name)
		if err := c.Create(ds); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Create makes the datasource's table, in place of one that has its name.
func (c *ClickHouse) Create(ds *schema.Datasource) error {
	if err := c.Exec("DROP TABLE IF EXISTS " + ds.Name); err != nil {
		return fmt.Errorf("dropping %s: %w", ds.Name, err)
	}
	if err := c.Exec(createTable(ds)); err != nil {
		return fmt.Errorf("creating %s: %w", ds.Name, err)
	}
	return nil
}

// Database is the name by which other databases of the process reach the tables.
func (c *ClickHouse) Database() string { return c.database }

// Close drops the database.
func (c *ClickHouse) Close() error { return c.Exec("DROP DATABASE " + c.database) }

// createTable is the datasource as ClickHouse makes it.
func createTable(ds *schema.Datasource) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s (", ds.Name)
	for i, column := range ds.Columns {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "`%s` %s", column.Name, column.Type.Text)
		if column.Default != "" {
			fmt.Fprintf(&b, " DEFAULT %s", column.Default)
		}
	}
	fmt.Fprintf(&b, ") ENGINE = %s PARTITION BY %s ORDER BY (%s)", ds.Engine, ds.PartitionKey, ds.SortingKey)
	if ds.TTL != "" {
		fmt.Fprintf(&b, " TTL %s", ds.TTL)
	}
	return b.String()
}

// Insert puts rows, one JSON object each, into a datasource as one block, as
// the Events API does with one request. A row that fails the strict check stops
// all of them.
func (c *ClickHouse) Insert(datasource string, rows [][]byte) error {
	ds, ok := c.set.Datasource(datasource)
	if !ok {
		return fmt.Errorf("there is no datasource %s", datasource)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "INSERT INTO %s FORMAT JSONEachRow\n", ds.Name)
	for _, row := range rows {
		if err := ds.Check(row); err != nil {
			return fmt.Errorf("inserting into %s: %w", ds.Name, err)
		}
		flat, err := flatten(ds, row)
		if err != nil {
			return err
		}
		b.Write(flat)
		b.WriteByte('\n')
	}
	return c.Exec(b.String())
}

// flatten turns a row as it is sent into one with a key a column, since
// ClickHouse knows no JSON paths.
func flatten(ds *schema.Datasource, row []byte) ([]byte, error) {
	var sent map[string]any
	decoder := json.NewDecoder(bytes.NewReader(row))
	decoder.UseNumber()
	if err := decoder.Decode(&sent); err != nil {
		return nil, err
	}
	flat := make(map[string]any, len(ds.Columns))
	for _, column := range ds.Columns {
		var at any = sent
		for _, key := range column.Path {
			object, _ := at.(map[string]any)
			at = object[key]
		}
		if at == nil && column.Default != "" {
			continue
		}
		flat[column.Name] = at
	}
	return json.Marshal(flat)
}

// Query runs a SELECT and decodes its rows, one JSON object each, into T. Wide
// integers come as numbers.
func Query[T any](c *ClickHouse, sql string) ([]T, error) {
	text, err := c.query(sql + "\nSETTINGS output_format_json_quote_64bit_integers = 0")
	if err != nil {
		return nil, err
	}
	var rows []T
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	for decoder.More() {
		var row T
		if err := decoder.Decode(&row); err != nil {
			return nil, fmt.Errorf("decoding a row of the result: %w", err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Exec runs a statement that answers nothing.
func (c *ClickHouse) Exec(sql string) error {
	_, err := c.query(sql)
	return err
}

// query runs a statement on this database, which the session may have left for
// another one, and returns the result as lines of JSON.
func (c *ClickHouse) query(sql string) (string, error) {
	if using != c.database {
		using = c.database
		if _, err := c.query("USE " + c.database); err != nil {
			return "", err
		}
	}
	result, err := c.session.Query(sql, "JSONEachRow")
	if err != nil {
		return "", fmt.Errorf("%w, of the query:\n%s", err, brief(sql))
	}
	if result == nil {
		return "", nil
	}
	defer result.Free()
	if err := result.Error(); err != nil {
		return "", errors.Join(err, errors.New(brief(sql)))
	}
	return string(bytes.Clone(result.Buf())), nil
}

// brief keeps rows out of error messages.
func brief(sql string) string {
	if first, _, ok := strings.Cut(sql, "\n"); ok && strings.HasPrefix(first, "INSERT") {
		return first + " …"
	}
	return sql
}
