package pipeline

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

func TestBucketsTravelWhole(t *testing.T) {
	at := time.UnixMicro(1_800_000_000_123_456).UTC()
	want := []storage.Bucket{
		{Start: at, Count: 3, First: storage.Point{Time: at, Value: device.String("on")}, Last: storage.Point{Time: at.Add(time.Second), Value: device.Double(math.NaN())}},
		{Start: at.Add(time.Hour), Count: 9, Numbers: 8, Min: -1.5, Max: math.Inf(1), Sum: math.Inf(1),
			First: storage.Point{Time: at.Add(time.Hour), Value: device.Int(-1)}, Last: storage.Point{Time: at.Add(time.Hour), Value: device.Bool(true)}},
	}
	var back storeAnswer
	if err := json.Unmarshal(answerOf(packBuckets(want), nil), &back); err != nil {
		t.Fatal(err)
	}
	if got, err := back.buckets(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("came back as %+v (%v), was %+v", got, err, want)
	}
	if _, err := packPoints([]storage.Point{want[0].First}).buckets(); err == nil {
		t.Error("points passed for buckets")
	}
}
