//go:build !linux

package main

import (
	"errors"
	"os"
)

func syncData(f *os.File) error { return f.Sync() }

func deviceWritten(string) int64 { return 0 }

func resident() (int64, error) {
	return 0, errors.New("a process's memory is read on Linux only: run the benchmark there")
}
