//go:build depstmp

package sessioncontext

import (
	_ "github.com/andybalholm/brotli"
	_ "github.com/caddyserver/caddy/v2/caddytest"
	_ "github.com/dustin/go-humanize"
	_ "github.com/gorilla/securecookie"
	_ "github.com/klauspost/compress/zstd"
	_ "github.com/medama-io/go-useragent"
	_ "github.com/oschwald/maxminddb-golang/v2"
	_ "github.com/prometheus/client_golang/prometheus"
	_ "github.com/redis/rueidis"
	_ "github.com/spf13/cobra"
	_ "go.etcd.io/bbolt"
	_ "go.uber.org/zap"
	_ "golang.org/x/net/html"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/text/language"
	_ "golang.org/x/time/rate"
)
