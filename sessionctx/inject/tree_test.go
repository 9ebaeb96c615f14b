package inject

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// checkTree has an HTML parser judge: the injected page is the original's tree
// plus one script, first in head; a page left alone is the same bytes.
func checkTree(t testing.TB, doc string, got *answer) {
	t.Helper()
	if got.outcome != Injected {
		if got.body() != doc {
			t.Fatalf("%q left alone (%s), but became %q", doc, got.outcome, got.body())
		}
		return
	}
	want, err := tree(doc, false)
	if err != nil {
		t.Skip("the original does not parse:", err)
	}
	have, err := tree(got.body(), true)
	if err != nil {
		t.Fatalf("%q: %v in %q", doc, err, got.body())
	}
	if have != want {
		t.Fatalf("%q became %q\ntree %s\nwant %s", doc, got.body(), have, want)
	}
}

// tree is the dump of doc's tree, less our script if there should be one.
func tree(doc string, injected bool) (string, error) {
	root, err := html.Parse(strings.NewReader(strings.TrimPrefix(doc, "\ufeff")))
	if err != nil {
		return "", err
	}
	if injected {
		head := find(root, "head")
		if head == nil || head.FirstChild == nil || head.FirstChild.Data != "script" ||
			!strings.HasPrefix(testScript, "<script data-session-context=\"\">"+text(head.FirstChild)) {
			return "", fmt.Errorf("our script is not first in head")
		}
		head.RemoveChild(head.FirstChild)
	}
	var b strings.Builder
	dump(&b, root, 0)
	return b.String(), nil
}

func text(n *html.Node) string {
	if n.FirstChild == nil {
		return ""
	}
	return n.FirstChild.Data
}

func find(n *html.Node, name string) *html.Node {
	if n.Type == html.ElementNode && n.Data == name {
		return n
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if found := find(c, name); found != nil {
			return found
		}
	}
	return nil
}

func dump(b *strings.Builder, n *html.Node, depth int) {
	fmt.Fprintf(b, "\n%*s%d %q %s %q", depth, "", n.Type, n.Data, n.Namespace, n.Attr)
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		dump(b, c, depth+1)
	}
}

// html5libDocs are the inputs of the html5lib tree construction tests, as they
// come with the HTML parser.
func html5libDocs(t testing.TB) (docs []string) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/net").Output()
	if err != nil {
		t.Skip("no go command to ask for test data:", err)
	}
	files, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "html/testdata/*/*.dat"))
	more, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "html/testdata/*/*/*.dat"))
	for _, file := range append(files, more...) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for part := range strings.SplitSeq("\n"+string(b), "\n#data\n") {
			if doc, _, found := strings.Cut(part, "\n#errors"); found {
				docs = append(docs, doc)
			}
		}
	}
	if len(docs) == 0 {
		t.Skip("no test data beside the HTML parser")
	}
	return docs
}

func TestTreeOfHTML5LibDocuments(t *testing.T) {
	outcomes := map[Reason]int{}
	for _, doc := range html5libDocs(t) {
		whole := page(t, "text/html; charset=utf-8", doc)
		outcomes[whole.outcome]++
		checkTree(t, doc, whole)
		if split := page(t, "text/html; charset=utf-8", bytewise(doc)...); split.body() != whole.body() {
			t.Errorf("%q: byte by byte %q, else %q", doc, split.body(), whole.body())
		}
	}
	t.Log(outcomes)
	if outcomes[Injected] < 1000 {
		t.Errorf("only %d documents injected", outcomes[Injected])
	}
}

// Every short row of awkward pieces, judged by the parser.
func TestTreeOfComposedDocuments(t *testing.T) {
	pieces := []string{
		"<!doctype html>", "<html>", "<head>", "</head>", "</p>", "</br>", "<!--c-->", "<!-->", "<?x>", "</ x>",
		" ", "&#32;", "&Tab;", "x", "<title>t</title>", "<header>", "<script>s</script>", "<html a='>'>", "<body>",
		"<", "&", "</>", "<!", "<template><head></template>", "<noscript><p></noscript>", "<svg><head/></svg>", "\x00",
	}
	depth := 3
	if testing.Short() {
		depth = 2
	}
	var compose func(doc string, left int)
	compose = func(doc string, left int) {
		checkTree(t, doc, page(t, "text/html; charset=utf-8", doc))
		if left == 0 {
			return
		}
		for _, piece := range pieces {
			compose(doc+piece, left-1)
		}
	}
	compose("", depth)
}
