package api

import (
	"bytes"
	"encoding/json"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// restJSON is protobuf-JSON as the command line prints it with -o json: absent
// where zero, and fields nobody knows are refused. A stream is one object a
// line; one that fails ends with a problem.
type restJSON struct{ runtime.JSONPb }

// lineType is the content type of a stream that is not server-sent events.
const lineType = "application/x-ndjson"

// Marshal takes off the wrapping in which the gateway hands on what a stream
// sends and how it failed.
func (j *restJSON) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case map[string]any:
		if m, ok := v["result"].(proto.Message); ok && len(v) == 1 {
			return j.Marshal(m)
		}
	case proto.Message:
		raw, err := j.JSONPb.Marshal(v)
		if err != nil {
			return nil, err
		}
		var line bytes.Buffer // protobuf-JSON varies its spaces on purpose; ours has none
		err = json.Compact(&line, raw)
		return line.Bytes(), err
	case map[string]proto.Message:
		if st, ok := v["error"].(*spb.Status); ok {
			return json.Marshal(problemOf(status.FromProto(st)))
		}
	}
	return j.JSONPb.Marshal(v)
}

// ContentType tells a failure before the first object of a stream.
func (j *restJSON) ContentType(v any) string {
	if _, failed := v.(map[string]proto.Message); failed {
		return problemType
	}
	return "application/json"
}

// StreamContentType is that of one object a line.
func (j *restJSON) StreamContentType(any) string { return lineType }
