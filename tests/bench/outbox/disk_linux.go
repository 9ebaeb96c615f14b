package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func syncData(f *os.File) error {
	return os.NewSyscallError("fdatasync", unix.Fdatasync(int(f.Fd())))
}

// deviceWritten is how many bytes went to the device under a directory since
// the system started, or 0 where that is not told (overlays, containers).
func deviceWritten(dir string) int64 {
	for { // what is not made yet is on its parent's device
		if _, err := os.Stat(dir); err == nil || dir == "/" {
			break
		}
		dir = filepath.Dir(dir)
	}
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return 0
	}
	want := fmt.Sprintf("%d %d", unix.Major(st.Dev), unix.Minor(st.Dev))
	text, _ := os.ReadFile("/proc/diskstats")
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 9 && f[0]+" "+f[1] == want {
			sectors, _ := strconv.ParseInt(f[9], 10, 64)
			return sectors * 512
		}
	}
	return 0
}

// resident is this process's memory, in bytes.
func resident() (int64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
