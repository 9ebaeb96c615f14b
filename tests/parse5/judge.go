// Package parse5 asks parse5, which follows the HTML standard to the letter,
// whether a page is the original plus one script.
package parse5

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Case is a page before and after.
type Case struct {
	Name     string `json:"-"`
	Original []byte `json:"original"`
	Injected []byte `json:"injected"`
	// Script is the text of the script that makes the difference.
	Script string `json:"script"`
	// Scripting is whether the parser's scripting flag is set, as it is in
	// browsers; it decides how noscript is parsed.
	Scripting bool `json:"scripting"`
}

// Differences says for each case how the injected page differs from the
// original plus the script, in words; "" where it does not.
func Differences(tb testing.TB, cases []Case) []string {
	tb.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		tb.Fatal("Node.js is not installed: run make setup")
	}
	dir := here()
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "parse5")); err != nil {
		tb.Fatalf("parse5 is not installed in %s: run make setup", dir)
	}
	cmd := exec.Command(node, filepath.Join(dir, "judge.mjs"))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() { sent <- send(stdin, cases) }()
	differences, err := receive(stdout, len(cases))
	if err != nil {
		_ = cmd.Process.Kill()
	}
	sendErr := <-sent
	if waitErr := cmd.Wait(); err != nil || sendErr != nil || waitErr != nil {
		tb.Fatalf("asking parse5 about %d pages: %v, sending: %v, its end: %v", len(cases), err, sendErr, waitErr)
	}
	return differences
}

// send writes the cases, one a line, and ends the input.
func send(w io.WriteCloser, cases []Case) error {
	buffered := bufio.NewWriter(w)
	encoder := json.NewEncoder(buffered)
	for _, c := range cases {
		if err := encoder.Encode(c); err != nil {
			_ = w.Close()
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	if err := buffered.Flush(); err != nil {
		_ = w.Close()
		return err
	}
	return w.Close()
}

// receive reads n answers.
func receive(r io.Reader, n int) ([]string, error) {
	decoder := json.NewDecoder(r)
	differences := make([]string, n)
	for i := range differences {
		if err := decoder.Decode(&differences[i]); err != nil {
			return nil, fmt.Errorf("answer %d: %w", i, err)
		}
	}
	return differences, nil
}

// here is the directory of this file.
func here() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}
