package normalize

import (
	"bytes"
	"strconv"
)

// appendKey appends one object key to a path of measurement names, escaped so
// that "." only ever separates.
func appendKey(path, key []byte) []byte {
	if len(path) > 0 {
		path = append(path, '.')
	}
	if len(key) == 0 {
		return append(path, `\e`...)
	}
	if bytes.IndexByte(key, '.') < 0 && bytes.IndexByte(key, '\\') < 0 {
		return append(path, key...)
	}
	for _, c := range key {
		if c == '.' || c == '\\' {
			path = append(path, '\\')
		}
		path = append(path, c)
	}
	return path
}

// appendIndex appends the place of an array element to a path; a path that is
// still empty begins with "value".
func appendIndex(path []byte, index int) []byte {
	if len(path) == 0 {
		path = append(path, valueName...)
	}
	return strconv.AppendInt(append(path, '.'), int64(index), 10)
}

// hasControl reports whether a name holds characters no screen shows.
func hasControl(name []byte) bool {
	for _, c := range name {
		if c < 0x20 || c == 0x7f {
			return true
		}
	}
	return false
}

// role is what a key means besides naming a value.
type role uint8

const (
	roleNone role = iota
	roleTime
	roleName
	roleValue
	roleUnit
)

func roleOf(key []byte) role {
	switch string(key) {
	case "ts", "time", "timestamp":
		return roleTime
	case "name":
		return roleName
	case "value":
		return roleValue
	case "unit":
		return roleUnit
	}
	return roleNone
}
