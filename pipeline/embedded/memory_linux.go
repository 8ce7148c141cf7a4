package embedded

import (
	"fmt"
	"syscall"
)

// memoryDir is a directory in memory where everybody may make files: POSIX shared
// memory is such a filesystem on Linux.
func memoryDir() (string, error) {
	const (
		dir   = "/dev/shm"
		tmpfs = 0x01021994 // statfs(2)
	)
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	if disk.Type != tmpfs {
		return "", fmt.Errorf("%s is not in memory", dir)
	}
	if free := int64(disk.Bavail) * int64(disk.Bsize); free < leastForStages {
		return "", fmt.Errorf("%s has %d bytes free, %d are needed", dir, free, int64(leastForStages))
	}
	return dir, nil
}
