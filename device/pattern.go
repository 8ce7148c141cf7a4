package device

import "strings"

// Pattern says for which devices of its tenant a gateway may speak:
//
//	pattern = name *( "," name )
//	name    = 1*( "*" / any character of a device name but "," )
//
// A "*" stands for any run of characters, also none; everything else stands for
// itself, capitals and all. "floor1-*" is every device whose name begins with
// floor1-, "*" is all, "floor1-*,roof" is one more. A comma in a device's name
// can only be met by a "*". The empty Pattern is nobody.
type Pattern string

// MaxPatternBytes bounds a Pattern.
const MaxPatternBytes = 1024

// Validate checks the grammar. It answers an *Error of code Invalid.
func (p Pattern) Validate() error {
	if len(p) > MaxPatternBytes {
		return Errorf(Invalid, "pattern is %d bytes long, the limit is %d", len(p), MaxPatternBytes)
	}
	for name := range strings.SplitSeq(string(p), ",") {
		if name != strings.TrimSpace(name) {
			return Errorf(Invalid, "pattern %q has a space beside a name; write floor1-*,roof", string(p))
		}
		if err := validName("pattern", name, MaxDeviceBytes); err != nil {
			return err
		}
	}
	return nil
}

// Matches reports whether the pattern allows the device name.
func (p Pattern) Matches(name string) bool {
	if p == "" {
		return false
	}
	for one := range strings.SplitSeq(string(p), ",") {
		if matches(one, name) {
			return true
		}
	}
	return false
}

// matches is one name of a pattern. The parts between stars are looked for from
// left to right, the first and the last where they must be: no backtracking.
func matches(pattern, name string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, first)
	if !ok {
		return false
	}
	for {
		var part string
		if part, rest, star = strings.Cut(rest, "*"); !star {
			return strings.HasSuffix(name, part)
		}
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name = name[at+len(part):]
	}
}
