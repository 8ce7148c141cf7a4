package normalize

import (
	"math"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// The years a device's time must lie in, as seconds since 1970: 2000 to 2100.
// Within them seconds, milli-, micro- and nanoseconds cannot be confused, and a
// clock that was never set (1970 and some minutes) is not believed.
const (
	earliest = 946684800
	latest   = 4102444800
)

// timestamp reads v, the value of a time key, as a point in time.
func timestamp(v device.Value) (time.Time, bool) {
	switch v.Kind() {
	case device.KindInt:
		return epochInt(v.Int())
	case device.KindDouble:
		return epochDouble(v.Double())
	case device.KindString:
		t, err := time.Parse(time.RFC3339Nano, v.Text())
		if err != nil || t.Unix() < earliest || t.Unix() >= latest {
			return time.Time{}, false
		}
		return t.UTC(), true
	}
	return time.Time{}, false
}

func epochInt(n int64) (time.Time, bool) {
	for perSecond := int64(1); perSecond <= 1e9; perSecond *= 1000 {
		if n >= earliest*perSecond && n/perSecond < latest {
			return time.Unix(n/perSecond, n%perSecond*(1e9/perSecond)).UTC(), true
		}
	}
	return time.Time{}, false
}

// epochDouble reads a number with a fraction, rounded to the microsecond: a
// double cannot hold today's date more exactly.
func epochDouble(f float64) (time.Time, bool) {
	for perSecond := 1.0; perSecond <= 1e9; perSecond *= 1000 {
		if f >= earliest*perSecond && f < latest*perSecond {
			whole, fraction := math.Modf(f / perSecond)
			return time.Unix(int64(whole), int64(math.Round(fraction*1e6))*1000).UTC(), true
		}
	}
	return time.Time{}, false
}
