// Package engine runs the Tinybird project of this repository on a real
// ClickHouse, inside the process, so that tests can ask its endpoints for
// figures and hold them against figures that were computed apart.
//
// The tables come from the datasource files, the queries from the pipe files;
// neither is written down a second time. What Tinybird adds to ClickHouse is
// played by as little as will do: a parser of pipe files, a renderer of the
// template functions that the pipes use, and nodes and other pipes that become
// common table expressions. Rows are held to the datasources by the strict
// check of package schema before they are inserted, since ClickHouse itself
// turns null into a default and wraps numbers that are out of range.
//
// It is ClickHouse as the npm package in package.json brings it, which is newer
// than Tinybird's own, and it is not Tinybird: nothing here has been compared
// with the real service.
//
// This is a module of its own, because chdb-go loads the library in an init
// function and so does not belong into anybody's Caddy. CHDB_LIB_PATH names the
// library; without it the tests fail to start (make test-engine sets it).
package engine
