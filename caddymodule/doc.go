// Package caddymodule is the Caddy side of the session layer: the app that
// sites share, the handlers, the Caddyfile, the API's routes, the key ring in
// Caddy's storage and the engine's life across reloads.
//
// It decides nothing about sessions. It turns requests into values of package
// sessionctx, and the decisions made there into headers, cookies, pages and
// answers. What it promises: a page always goes out, whatever fails on our
// side; nothing is opened, made or dialled while a config is validated;
// requests of an old config find a working engine after a reload.
package caddymodule
