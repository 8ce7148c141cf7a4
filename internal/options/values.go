package options

import (
	"errors"
	"fmt"
	"math"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// Off is what an address says to close its door.
const Off = "off"

var durationType = reflect.TypeFor[time.Duration]()

// textMapper reads a flag's one word.
func textMapper[T int64 | time.Duration | string](read func(string) (T, error)) kong.MapperFunc {
	return func(ctx *kong.DecodeContext, target reflect.Value) error {
		var text string
		if err := ctx.Scan.PopValueInto(ctx.Value.Tag.Type, &text); err != nil {
			return err
		}
		value, err := read(text)
		if err != nil {
			return err
		}
		if target.CanInt() && target.OverflowInt(reflect.ValueOf(value).Int()) {
			return fmt.Errorf("%q is too large", text)
		}
		target.Set(reflect.ValueOf(value).Convert(target.Type()))
		return nil
	}
}

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// readSize reads "4096", "64KiB", "4GiB".
func readSize(text string) (int64, error) {
	digits, factor := text, int64(1)
	for _, unit := range sizeUnits {
		if rest, ok := strings.CutSuffix(text, unit.name); ok {
			digits, factor = rest, unit.bytes
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) || err == nil && n > math.MaxInt64/factor:
		return 0, fmt.Errorf("%q is too large for a size", text)
	case err != nil || n < 0 || strings.HasPrefix(digits, "+"):
		return 0, fmt.Errorf("%q is not a size: say a number of bytes, or a whole number with KiB, MiB, GiB or TiB%s", text, sizeHint(text))
	}
	return n * factor, nil
}

var nearlySize = regexp.MustCompile(`^\s*(\d+)\s*([kKmMgGtT])i?[bB]?\s*$`)

// sizeHint guesses what 4GB, 4g or "4 GiB" meant.
func sizeHint(text string) string {
	m := nearlySize.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return "; did you mean " + m[1] + strings.ToUpper(m[2]) + "iB?"
}

// showSize is the shortest text readSize reads as n.
func showSize(n int64) string {
	for _, unit := range sizeUnits {
		if n != 0 && n%unit.bytes == 0 && unit.bytes > 1 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

var days = regexp.MustCompile(`^(\d{1,6})d(.*)$`)

// readDuration reads Go's durations and days: "30s", "1h30m", "7d", "1d12h".
func readDuration(text string) (time.Duration, error) {
	rest, sum := text, time.Duration(0)
	if m := days.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1]) // six digits
		if n > math.MaxInt64/int(24*time.Hour) {
			return 0, fmt.Errorf("%q is too long for a duration", text)
		}
		if rest, sum = m[2], time.Duration(n)*24*time.Hour; rest == "" {
			return sum, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || strings.HasPrefix(rest, "+") || sum+d < 0 {
		hint := ""
		if _, numeric := strconv.Atoi(text); numeric == nil {
			hint = "; did you mean " + strings.TrimLeft(text, "+-") + "s?"
		}
		return 0, fmt.Errorf("%q is not a duration: say numbers with d, h, m, s or ms, such as 7d, 1h30m or 30s%s", text, hint)
	}
	return sum + d, nil
}

// showDuration is the shortest text readDuration reads as d.
func showDuration(d time.Duration) string {
	const day = 24 * time.Hour
	text := ""
	if n := d / day; n > 0 {
		if d -= n * day; d == 0 {
			return fmt.Sprintf("%dd", n)
		}
		text = fmt.Sprintf("%dd", n)
	}
	short := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if rest, ok := strings.CutSuffix(short, zero); ok {
			short = rest + zero[:1]
		}
	}
	return text + short
}

// readAddress reads "off", ":1883", "127.0.0.1:0", "[::1]:1883", "host:1883".
func readAddress(text string) (string, error) {
	if text == Off {
		return text, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err == nil && !strings.ContainsAny(host, " \t/") {
		return text, nil
	}
	hint := ""
	_, numeric := strconv.ParseUint(text, 10, 16)
	switch {
	case numeric == nil:
		hint = "; did you mean 127.0.0.1:" + text + "?"
	case net.ParseIP(text) != nil:
		hint = "; its port is missing"
	case slices.Contains([]string{"false", "no", "none", "disabled", ""}, strings.ToLower(text)), strings.EqualFold(text, Off):
		hint = "; did you mean " + Off + "?"
	}
	return "", fmt.Errorf("%q is not an address: say HOST:PORT, :PORT for every interface, port 0 for a free one, or %s%s", Redact(text), Off, hint)
}

// credentials are the parts of URLs that hold secrets: what stands between the
// scheme and the host, and parameters of a telling name.
var credentials = regexp.MustCompile(`(://)\S*(@)|((?i:[?&;][a-z_]*(?:pass|pwd|secret|token|key)[a-z_]*=))[^&;\s"]*`)

// Redact takes the secrets out of text that is a URL or holds some.
func Redact(text string) string { return credentials.ReplaceAllString(text, "${1}${3}…${2}") }

// shown is the option's value as a person may see it.
func (o Option) shown() string {
	switch value := o.flag.Target; {
	case value.Type() == durationType:
		return showDuration(time.Duration(value.Int()))
	case o.flag.Tag.Type == "size":
		return showSize(value.Int())
	case value.Kind() == reflect.Slice:
		var parts []string
		for i := range value.Len() {
			parts = append(parts, fmt.Sprint(value.Index(i)))
		}
		return Redact(strings.Join(parts, ","))
	default:
		return Redact(fmt.Sprint(value))
	}
}
