//go:build !linux

package tests

import (
	"errors"
	"testing"
)

func smallDisk(testing.TB, string) (string, error) {
	return "", errors.New("a small file system is made on Linux only")
}

func fillDisk(testing.TB, string) func() { return func() {} }
