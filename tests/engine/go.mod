module github.com/firebuzz/caddy-sessionctx/tests/engine

go 1.26.0

require (
	github.com/chdb-io/chdb-go v1.11.0
	github.com/firebuzz/caddy-sessionctx v0.0.0
)

require (
	github.com/ebitengine/purego v0.8.2 // indirect
	github.com/google/uuid v1.6.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.50.0 // indirect
)

replace github.com/firebuzz/caddy-sessionctx => ../..
