package normalize

import (
	"errors"

	"github.com/fxamacker/cbor/v2"

	"github.com/tributary-iot/tributary/device"
)

// Bounds of what is even looked at in CBOR; the walk's own are narrower. Tags
// nest too, and a waveform may be longer than what becomes measurements.
const (
	maxCBORNesting  = 2 * MaxDepth
	maxCBORElements = 1 << 17
)

// cborMode checks bytes against RFC 8949 and reads single items.
var cborMode = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		MaxNestedLevels: maxCBORNesting, MaxArrayElements: maxCBORElements, MaxMapPairs: maxCBORElements,
	}.DecMode()
	if err != nil {
		panic(err) // the options above are constants
	}
	return mode
}()

// decodeCBOR fills m from its payload, one data item of RFC 8949. On an error
// m is unchanged.
func decodeCBOR(m *device.Message) error {
	r, err := readCBOR(m.Payload)
	if err != nil {
		return err
	}
	return walkInto(m, r, func() error { return nil })
}

// readCBOR begins to read one data item, well-formed (RFC 8949, appendix C)
// from the first byte to the last.
func readCBOR(payload []byte) (*cborReader, error) {
	if err := cborMode.Wellformed(payload); err != nil {
		return nil, cborError(err)
	}
	return &cborReader{p: payload}, nil
}

func cborError(err error) error {
	var depth *cbor.MaxNestedLevelError
	var elements *cbor.MaxArrayElementsError
	var pairs *cbor.MaxMapPairsError
	switch {
	case errors.As(err, &depth):
		return device.Errorf(device.Invalid, "payload nests deeper than %d levels", maxCBORNesting)
	case errors.As(err, &elements), errors.As(err, &pairs):
		return device.Errorf(device.Invalid, "payload holds an array or map of more than %d elements", maxCBORElements)
	}
	return device.Errorf(device.Undecodable, "payload is not well-formed CBOR: %s", err)
}

func cborInvalid(at int, what string) error {
	return device.Errorf(device.Undecodable, "payload is not valid CBOR at byte %d: %s", at, what)
}
