//go:build !linux

package embedded

import "errors"

// memoryDir is not known here.
func memoryDir() (string, error) {
	return "", errors.New("this system has no filesystem in memory that we know of")
}
