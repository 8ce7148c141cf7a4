package bridge

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// maxDepth is how deep values of a message may nest; nobody's do.
const maxDepth = 32

var (
	errDeep  = fmt.Errorf("the broker sent a message whose values nest deeper than %d", maxDepth)
	errKey   = errors.New("the broker sent a message with an annotation whose key is no name")
	errShort = errors.New("the broker sent a message that ends inside a value")
)

// sound checks of a message's sections what the client library takes for granted.
// What else may be wrong with them it tells itself.
func sound(sections []byte) error {
	for len(sections) > 0 {
		value := sections
		annotations := false
		if len(value) > 3 && value[0] == 0 && value[1] == 0x53 {
			annotations = value[2] == 0x71 || value[2] == 0x72 || value[2] == 0x78
		} else {
			annotations = true // an unusual descriptor: whatever it is, its keys are looked at
		}
		rest, err := walk(value, maxDepth, annotations)
		if err != nil {
			return err
		}
		sections = rest
	}
	return nil
}

// walk steps over one value and answers what follows it. named says that the keys
// of a map right here must be names or numbers.
func walk(b []byte, depth int, named bool) ([]byte, error) {
	switch {
	case depth == 0:
		return nil, errDeep
	case len(b) == 0:
		return nil, errShort
	}
	code, b := b[0], b[1:]
	if code == 0 { // described: a descriptor, and the value
		b, err := walk(b, depth-1, false)
		if err != nil {
			return nil, err
		}
		return walk(b, depth-1, named)
	}
	var size, width int
	switch code >> 4 {
	case 0x4:
		return b, nil
	case 0x5, 0x6, 0x7, 0x8, 0x9:
		size = 1 << (code>>4 - 5)
	case 0xa, 0xc, 0xe:
		width = 1
	case 0xb, 0xd, 0xf:
		width = 4
	default:
		return nil, fmt.Errorf("the broker sent a message with the unknown format code 0x%02x", code)
	}
	if len(b) < width {
		return nil, errShort
	}
	switch width {
	case 1:
		size = int(b[0])
	case 4:
		size = int(binary.BigEndian.Uint32(b))
	}
	b = b[width:]
	if size < 0 || size > len(b) {
		return nil, errShort
	}
	if code>>4 < 0xc {
		return b[size:], nil
	}
	return b[size:], compound(code, b[:size], width, depth-1, named)
}

// compound looks at the elements of a list, map or array.
func compound(code byte, body []byte, width, depth int, named bool) error {
	if len(body) < width {
		return errShort
	}
	body = body[width:]
	if code>>4 >= 0xe { // the elements of an array share their constructor
		return array(body, depth)
	}
	isMap := code == 0xc1 || code == 0xd1
	for i := 0; len(body) > 0; i++ {
		if isMap && named && i%2 == 0 && !hashable(body[0]) {
			return errKey
		}
		var err error
		if body, err = walk(body, depth, false); err != nil {
			return err
		}
	}
	return nil
}

// array refuses arrays whose elements nest: nobody sends them, and what their
// elements hold is not written the way values are.
func array(body []byte, depth int) error {
	switch {
	case depth == 0:
		return errDeep
	case len(body) == 0 || body[0] != 0 && body[0]>>4 < 0xc:
		return nil
	}
	return errDeep
}

// hashable reports whether a value of this format code can be a key: no binary,
// list, map, array or described value.
func hashable(code byte) bool {
	return code != 0 && code != 0xa0 && code != 0xb0 && code < 0xc0 && code != 0x45
}
