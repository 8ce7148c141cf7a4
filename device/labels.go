package device

import (
	"maps"
	"slices"
	"strings"
)

// Labels say what a device is, so that many can be meant at once: key to value.
// A label whose value is empty is a group: its key is the group's name.
//
//	key   = 1 to 63 of letters, digits, "-", "_", "." and "/", letters or digits at both ends
//	value = at most 63 of the same but "/", letters or digits at both ends; may be empty
type Labels map[string]string

// MaxLabels bounds the labels of a device, MaxLabelBytes a key or a value.
const (
	MaxLabels     = 64
	MaxLabelBytes = 63
)

// Validate checks grammar and number. It answers an *Error of code Invalid.
func (l Labels) Validate() error {
	if len(l) > MaxLabels {
		return Errorf(Invalid, "%d labels, the limit is %d", len(l), MaxLabels)
	}
	for _, key := range slices.Sorted(maps.Keys(l)) {
		if err := validLabel("label", key, true); err != nil {
			return err
		}
		if value := l[key]; value != "" {
			if err := validLabel("the value of label "+key, value, false); err != nil {
				return err
			}
		}
	}
	return nil
}

func validLabel(what, s string, key bool) error {
	if s == "" || len(s) > MaxLabelBytes {
		return Errorf(Invalid, "%s is %d bytes long, it may have 1 to %d", what, len(s), MaxLabelBytes)
	}
	for i := range len(s) {
		if !labelByte(s[i], key) || (i == 0 || i == len(s)-1) && !alphanumeric(s[i]) {
			return Errorf(Invalid, "%s %q is not made of letters, digits, - _ and ., with letters or digits at both ends", what, s)
		}
	}
	return nil
}

func alphanumeric(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}

func labelByte(b byte, key bool) bool {
	return alphanumeric(b) || strings.IndexByte("-_.", b) >= 0 || key && b == '/'
}

// String is "k=v,group" in order of keys.
func (l Labels) String() string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(l)) {
		if l[key] != "" {
			key += "=" + l[key]
		}
		all = append(all, key)
	}
	return strings.Join(all, ",")
}
