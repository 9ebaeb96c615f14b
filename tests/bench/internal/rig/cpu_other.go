//go:build !linux

package rig

import (
	"errors"
	"time"
)

// CPUTime is read on Linux only.
func CPUTime(int) (time.Duration, error) {
	return 0, errors.New("CPU time of another process is read on Linux only: run the benchmark there")
}
