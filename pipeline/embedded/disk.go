package embedded

import (
	"fmt"
	"math"
	"syscall"
)

// The smallest and the largest reserve that is not asked for.
const (
	leastReserved = 64 << 20
	mostReserved  = 1 << 30
)

// Disk looks at the disk the streams are on: what it has left for this process,
// and what of that is not for messages; in bytes.
func (s *Server) Disk() (free, reserve int64, err error) {
	total, free, err := diskOf(s.opts.Dir)
	if reserve = s.opts.Reserve; reserve == 0 {
		reserve = min(max(total/20, leastReserved), mostReserved)
	}
	return free, reserve, err
}

func diskOf(dir string) (total, free int64, err error) {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		return 0, 0, fmt.Errorf("embedded nats: free space of %s: %w", dir, err)
	}
	bytes := func(blocks uint64) int64 {
		return int64(min(blocks, math.MaxInt64/uint64(disk.Bsize)) * uint64(disk.Bsize))
	}
	return bytes(disk.Blocks), bytes(disk.Bavail), nil
}
