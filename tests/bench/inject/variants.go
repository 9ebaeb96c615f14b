package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"

	"github.com/firebuzz/caddy-sessionctx/tests/bench/internal/rig"
)

// kind is what a variant's figures are held against.
type kind int

const (
	passThrough kind = iota // the measure of all others
	injectorOnly
	everything
	other // for comparison; nothing is asked of it
)

// variant is one way to serve the pages.
type variant struct {
	name string
	kind kind
	// site is the inside of Caddy's site block, before what makes the page; ""
	// is nothing there.
	site string
	// nginx is what stands in nginx's server block, if it isn't Caddy.
	nginx *string
	// returning makes each visitor one who has been here, with cookies.
	returning bool
	check     func(v *running, p page, from answer) error
}

// running is a variant with its process.
type running struct {
	variant
	server  *rig.Server
	visitor rig.Visitor // whose cookies are sent
	samples []rig.Sample
}

var subFilter = "sub_filter '<head>' '<head>" + rig.FixedScript + "';"

func variants() []variant {
	const (
		asks   = "consent {\n\t\t\trequire always\n\t\t}"
		cookie = ""
	)
	return []variant{
		{name: "Caddy, plain", kind: passThrough, check: sameAsUpstream},
		{name: "injector alone, fixed script", kind: injectorOnly, site: "\tbench_inject\n", check: withFixedScript},
		{name: "everything on, consent not given yet", kind: everything, site: rig.EverythingOn(asks), check: withContext(0)},
		{name: "everything on, cookies, new visitor", kind: everything, site: rig.EverythingOn(cookie), check: withContext(3)},
		{name: "everything on, cookies, known visitor", kind: everything, site: rig.EverythingOn(cookie), returning: true, check: withKnownContext},
		{name: "Caddy, `templates`", kind: other, site: "\ttemplates\n", check: withAction},
		{name: "nginx, plain", kind: other, nginx: new(""), check: sameAsUpstream},
		{name: "nginx, `sub_filter`", kind: other, nginx: &subFilter, check: withFixedScript},
	}
}

// start runs the variant in dir.
func (v variant) start(binary, dir, root, upstream string) (r *running, err error) {
	r = &running{variant: v}
	if v.nginx != nil {
		r.server, err = startNginx(dir, root, upstream, *v.nginx)
	} else {
		r.server, err = rig.StartCaddy(binary, dir, v.site+fmt.Sprintf(`	handle /%s/* {
		root %s
		file_server
	}
	handle {
		reverse_proxy %s
	}`, file, root, upstream))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.name, err)
	}
	return r, nil
}

// startNginx starts one with a single worker, kept connections to the upstream
// as Caddy has, and no access log, as Caddy has none.
func startNginx(dir, root, upstream, more string) (*rig.Server, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	addr, err := rig.FreeAddr()
	if err != nil {
		return nil, err
	}
	as := ""
	if os.Geteuid() == 0 {
		u, err := user.Current()
		if err != nil {
			return nil, err
		}
		as = "user " + u.Username + ";"
	}
	config := fmt.Sprintf(`%s
daemon off;
worker_processes 1;
pid %[2]s/pid;
error_log stderr error;
events { worker_connections 1024; }
http {
	access_log off;
	sendfile on;
	tcp_nopush on;
	keepalive_requests 100000000;
	types { text/html html; }
	charset utf-8;
	client_body_temp_path %[2]s/client;
	proxy_temp_path %[2]s/proxy;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	proxy_max_temp_file_size 0;
	upstream app {
		server %[3]s;
		keepalive 64;
		keepalive_requests 100000000;
	}
	server {
		listen %[4]s;
		%[5]s
		location /%[6]s/ { root %[7]s; }
		location / {
			proxy_pass http://app;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
		}
	}
}
`, as, dir, upstream, addr, more, file, root)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	nginx, err := tool("nginx")
	if err != nil {
		return nil, err
	}
	return rig.Start(exec.Command(nginx, "-p", dir, "-e", "stderr", "-c", path), addr, "")
}

// tool finds a program that the benchmark needs beside Go.
func tool(name string) (string, error) {
	for _, candidate := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is missing: run scripts/setup.sh bench (Debian: apt-get install wrk nginx-light)", name)
}
