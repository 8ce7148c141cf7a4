package devicepb

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// framedPublication is the field of a frame (proto Publications) that one publication
// is. A Publication has no such field, so a body says by its first tag what it is.
const framedPublication protowire.Number = 100

// AppendFramed appends the body of one more publication to a frame: what stands in one
// place of the stream for several.
func AppendFramed(frame, body []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(frame, framedPublication, protowire.BytesType), body)
}

// FramedSize is by how much AppendFramed makes a frame longer.
func FramedSize(body []byte) int {
	return protowire.SizeTag(framedPublication) + protowire.SizeBytes(len(body))
}

// EachPublication calls each with the body of every publication in body, in order,
// until it answers false: those of a frame, or body itself. The bodies are parts of it.
func EachPublication(body []byte, each func(one []byte) bool) error {
	if num, _, n := protowire.ConsumeTag(body); n < 0 || num != framedPublication {
		each(body)
		return nil
	}
	for len(body) > 0 {
		num, typ, n := protowire.ConsumeTag(body)
		if n < 0 || num != framedPublication || typ != protowire.BytesType {
			return fmt.Errorf("devicepb: frame of publications: %w", errTruncated)
		}
		one, m := protowire.ConsumeBytes(body[n:])
		if m < 0 {
			return fmt.Errorf("devicepb: frame of publications: %w", errTruncated)
		}
		if !each(one[:len(one):len(one)]) {
			return nil
		}
		body = body[n+m:]
	}
	return nil
}
