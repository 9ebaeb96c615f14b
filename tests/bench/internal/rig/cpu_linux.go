package rig

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// CPUTime is the user and system time that a process has used so far. It is
// what /proc/PID/stat shows as utime and stime, in nanoseconds instead of
// ticks of 10 ms: a page takes some 50 µs, a round has few thousand.
func CPUTime(pid int) (time.Duration, error) {
	// The clock's id as the kernel makes it (clock_getcpuclockid(3)): the
	// inverted pid, and 2 for the scheduler's own accounting.
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
		return 0, fmt.Errorf("reading CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}
