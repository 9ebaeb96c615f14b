//go:build unix

package tests

import (
	"fmt"
	"io"
	"net"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startPHP runs php-fpm with a pool of its own and returns its socket.
func startPHP(t testing.TB) string {
	t.Helper()
	program := findPHP(t)
	// The path of a socket has little room.
	dir, err := os.MkdirTemp("", "fpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	config := filepath.Join(dir, "fpm.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, `[global]
error_log = %[1]s/log
daemonize = no
[www]
user = %[2]s
listen = %[3]s
pm = static
pm.max_children = 4
php_admin_value[session.save_path] = %[1]s
`, dir, me.Username, socket), 0o600); err != nil {
		t.Fatal(err)
	}
	// -n: without the system's php.ini, which differs. -R: root may run it.
	cmd := exec.Command(program, "-n", "-R", "-F", "-y", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	t.Cleanup(func() {
		// Workers may wait for a client that is gone.
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-done
	})
	eventually(t, 30*time.Second, "php-fpm listens", func() error {
		select {
		case <-done:
			b, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("php-fpm ended at its start:\n%s", b)
		default:
		}
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return socket
}

// findPHP finds it by its bare name or by one with its version, as Debian has
// it, also where sbin is not in the PATH.
func findPHP(t testing.TB) string {
	t.Helper()
	if p, err := exec.LookPath("php-fpm"); err == nil {
		return p
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"} {
		if found, _ := filepath.Glob(filepath.Join(dir, "php-fpm*")); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	t.Fatal("php-fpm is missing: run `make setup`")
	return ""
}

// TestPHP: pages that a real PHP makes, by the ways that PHP has of its own.
func TestPHP(t *testing.T) {
	t.Parallel()
	socket := startPHP(t)
	half := len(longPage) / 2
	scripts := map[string]string{
		"index.php":  longPage,
		"flush.php":  longPage[:half] + `<?php flush(); ?>` + longPage[half:],
		"sized.php":  fmt.Sprintf(`<?php header("Content-Length: %d"); header("ETag: \"1\""); header("X-Kept: yes"); ?>`, len(longPage)) + longPage,
		"exit.php":   longPage[:half] + `<?php flush(); exit; ?>` + longPage[half:],
		"form.php":   strings.Replace(longPage, "<body>", `<body><?= htmlspecialchars($_SERVER["REQUEST_METHOD"] . " " . $_POST["name"]) ?>`, 1),
		"path.php":   strings.Replace(longPage, "<body>", `<body><?= htmlspecialchars($_SERVER["REQUEST_URI"] . " " . $_SERVER["QUERY_STRING"]) ?>`, 1),
		"status.php": `<?php http_response_code(404); ?>` + longPage,
		"moved.php":  `<?php header("Location: /elsewhere"); ?>` + longPage,
		"json.php":   `<?php header("Content-Type: application/json"); echo json_encode(["html" => "<head>"]);`,
		"latin.php":  `<?php header("Content-Type: text/html; charset=iso-8859-1"); ?>` + strings.Replace(longPage, "<body>", "<body>\xe9", 1),
		"empty.php":  `<?php`,
		"fatal.php":  longPage[:half] + `<?php flush(); nobody_has_this(); ?>` + longPage[half:],
		"session.php": `<?php session_start(); $_SESSION["n"] = 1 + ($_SESSION["n"] ?? 0); setcookie("theirs", "1", 0, "/"); ?>` +
			strings.Replace(longPage, "<body>", `<body>visit <?= $_SESSION["n"] ?>.`, 1),
		"zlib.php": `<?php ini_set("zlib.output_compression", "1"); ?>` + longPage,
		// It compresses though it is asked not to, as some applications do.
		"gzip.php":  `<?php ob_start(); ?>` + longPage + `<?php $z = gzencode(ob_get_clean()); header("Content-Encoding: gzip"); header("Content-Length: " . strlen($z)); echo $z;`,
		"stall.php": `<html><head><title>x</title></head><body>before<?php flush(); fgets(fopen($_SERVER["DOCUMENT_ROOT"] . "/fifo-" . $_GET["n"], "r")); ?> after</body></html>`,
	}
	// Without flush_interval Caddy keeps what PHP flushes, module or not.
	w := startTwins(t, "", "\nlog\nencode gzip\nMODULE\nroot DIR/www\nphp_fastcgi unix/"+socket+" {\n\tflush_interval -1\n}", func(c *caddy) {
		for name, script := range scripts {
			writePage(t, c, name, script)
		}
	})
	client := plainClient(t)
	form := ask{method: "POST", path: "/form.php", body: "name=a%3Cb", header: []string{"Content-Type", "application/x-www-form-urlencoded"}}
	for _, test := range []struct {
		name, outcome string
		ask           ask
		body          string // has to be in it
	}{
		{"page", "injected", ask{path: "/"}, longPage},
		{"page by its script", "injected", ask{path: "/index.php"}, longPage},
		{"page by the application's path", "injected", ask{path: "/some/where"}, longPage},
		{"page that is asked for in parts", "injected", ask{path: "/index.php", header: []string{"Range", "bytes=0-9"}}, longPage},
		{"page with a flush in the middle", "injected", ask{path: "/flush.php"}, longPage},
		{"page with a length", "injected", ask{path: "/sized.php"}, longPage},
		{"page that ends in the middle", "injected", ask{path: "/exit.php"}, longPage[:half]},
		{"page that dies in the middle", "injected", ask{path: "/fatal.php"}, "Call to undefined function"},
		{"page in another encoding", "injected", ask{path: "/latin.php"}, "\xe9"},
		{"form", "injected", form, "POST a&lt;b"},
		{"form that a script sends", "not_a_page_request", ask{method: form.method, path: form.path, body: form.body, header: append([]string{"Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, form.header...)}, "POST a&lt;b"},
		{"path and query", "injected", ask{path: "/path.php?a=%20&b[]=1"}, "/path.php?a=%20&amp;b[]=1 a=%20&amp;b[]=1"},
		{"error", "status", ask{path: "/status.php"}, longPage},
		{"redirect", "status", ask{path: "/moved.php"}, ""},
		{"JSON", "not_html", ask{path: "/json.php"}, `"<head>"`},
		{"nothing", "no_insertion_point", ask{path: "/empty.php"}, ""},
		{"HEAD", "head", ask{method: "HEAD", path: "/sized.php"}, ""},
		{"compression that is not asked for", "injected", ask{path: "/zlib.php"}, longPage},
		{"compression all the same", "injected", ask{path: "/gzip.php"}, longPage},
		{"page that is encoded", "injected", ask{path: "/flush.php", header: []string{"Accept-Encoding", "gzip"}}, longPage},
		{"compression of what is no page", "not_a_page_request", ask{path: "/zlib.php", header: append([]string{"Accept-Encoding", "gzip"}, asset...)}, longPage},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := w.check(t, client, test.ask, test.outcome)
			body := got.body
			if test.outcome == "injected" {
				body = withoutScript(t, body)
			}
			if !strings.Contains(body, test.body) {
				t.Errorf("%q is not in\n%s", shorten(test.body), shorten(body))
			}
			if test.ask.path == "/sized.php" && test.outcome == "injected" && got.length != int64(len(got.raw)) {
				t.Errorf("Content-Length %d for %d bytes", got.length, len(got.raw))
			}
		})
	}
	for _, path := range []string{"/zlib.php", "/gzip.php"} {
		t.Run("compression that Caddy takes over, "+path, func(t *testing.T) {
			with, bare := w.both(t, client, ask{path: path, header: []string{"Accept-Encoding", "gzip"}})
			if bare.header.Get("Content-Encoding") != "gzip" || with.header.Get("Content-Encoding") != "gzip" {
				t.Errorf("Content-Encoding %q, without the module %q", with.header.Get("Content-Encoding"), bare.header.Get("Content-Encoding"))
			}
			if with.err != nil || withoutScript(t, with.body) != bare.body {
				t.Errorf("%v: %s", with.err, shorten(with.body))
			}
		})
	}
	t.Run("sessions of PHP beside ours", func(t *testing.T) {
		v := plainClient(t)
		v.Jar, _ = cookiejar.New(nil)
		first := fetch(t, v, w.with, ask{path: "/session.php"})
		for _, name := range []string{"PHPSESSID=", "theirs=", "fb_session_cmp_1=", "fb_user_ws_1="} {
			if n := strings.Count(strings.Join(first.header["Set-Cookie"], "\n"), name); n != 1 {
				t.Errorf("%d cookies %s in %q", n, name, first.header["Set-Cookie"])
			}
		}
		second := fetch(t, v, w.with, ask{path: "/session.php"})
		if !strings.Contains(first.body, "visit 1.") || !strings.Contains(second.body, "visit 2.") {
			t.Errorf("PHP's session does not go on:\n%s", shorten(second.body))
		}
		if a, b := parseContext(t, first.body), parseContext(t, second.body); a.Session.SessionID != b.Session.SessionID {
			t.Errorf("our session does not go on: %s, then %s", a.Session.SessionID, b.Session.SessionID)
		}
	})
	for _, coding := range []string{"identity", "gzip"} {
		t.Run("stall in the middle, "+coding, func(t *testing.T) {
			// PHP waits for someone to write to the fifo.
			fifo := w.c.path("www/fifo-" + coding)
			if err := syscall.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			res, err := client.Do(ask{path: "/stall.php?n=" + coding, header: []string{"Accept-Encoding", coding}}.request(t, w.with))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body := decoder(res.Header.Get("Content-Encoding"), res.Body)
			got := until(t, body, "before")
			if err := os.WriteFile(fifo, []byte("go on\n"), 0); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(body)
			if err != nil || withoutScript(t, got+string(rest)) != "<html><head><title>x</title></head><body>before after</body></html>" {
				t.Errorf("%s%s, %v", got, rest, err)
			}
		})
	}
}
