package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// output prints answers: aligned columns for people, or one protobuf-JSON
// object a line (lowerCamel names, 64-bit integers and times as strings, bytes
// in base64, absent where zero).
type output struct {
	json  bool
	out   io.Writer
	notes io.Writer // for people; never part of the answer
	table *tabwriter.Writer
	names []string // of columns, until the first row
}

func newOutput(out, notes io.Writer, json bool) *output {
	return &output{json: json, out: out, notes: notes, table: tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)}
}

// object prints one answer as a line of JSON.
func (o *output) object(m proto.Message) error {
	raw, err := protojson.Marshal(m)
	if err != nil {
		return err
	}
	// protojson varies its spaces on purpose; a line of ours does not.
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return err
	}
	line.WriteByte('\n')
	_, err = o.out.Write(line.Bytes())
	return err
}

// head names the columns of the rows to come; without a row nothing is printed.
func (o *output) head(names ...string) {
	if !o.json {
		o.names = names
	}
}

// headless reports whether no row came to the head.
func (o *output) headless() bool { return len(o.names) > 0 }

// row adds cells to the table, which is printed by close.
func (o *output) row(cells ...string) error {
	if names := o.names; len(names) > 0 {
		o.names = nil
		if err := o.row(names...); err != nil {
			return err
		}
	}
	for i, c := range cells {
		cells[i] = printable(c)
	}
	_, err := fmt.Fprintln(o.table, strings.Join(cells, "\t"))
	return err
}

// line prints at once.
func (o *output) line(format string, args ...any) error {
	_, err := fmt.Fprintln(o.out, strings.TrimRight(printable(fmt.Sprintf(format, args...)), " "))
	return err
}

// note tells a person something that is not part of the answer.
func (o *output) note(format string, args ...any) {
	fmt.Fprintf(o.notes, format+"\n", args...)
}

// none says that an answer is empty on purpose, where a person reads it.
func (o *output) none(format string, args ...any) {
	if !o.json {
		o.note(format, args...)
	}
}

func (o *output) close() error { return o.table.Flush() }

// printable shows what devices sent without letting it steer the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// maxShown bounds a payload in a table; json shows all of it.
const maxShown = 120

// payload shows bytes to a person: as text when they are, else their number.
func payload(b []byte) string {
	text := strings.Join(strings.Fields(string(b)), " ")
	switch {
	case len(b) == 0:
		return ""
	case !utf8.Valid(b) || printable(text) != text:
		return fmt.Sprintf("(%d bytes)", len(b))
	case utf8.RuneCountInString(text) > maxShown:
		return string([]rune(text)[:maxShown]) + "…"
	}
	return text
}

// moment shows a time to a person, in the zone of the machine.
func moment(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Local().Format("2006-01-02 15:04:05.000")
}

// clock is the same for what has just happened.
func clock(t *timestamppb.Timestamp) string { return t.AsTime().Local().Format("15:04:05.000") }

// values shows what a message measured, or its payload when it measured nothing.
func values(m *pb.Message) string {
	if len(m.GetMeasurements()) == 0 {
		return payload(m.GetPayload())
	}
	var parts []string
	for _, x := range m.GetMeasurements() {
		parts = append(parts, measurement(x))
	}
	return strings.Join(parts, " ")
}

func measurement(x *pb.Measurement) string {
	text := payload([]byte(devicepb.MeasurementFromProto(x).Value.String()))
	if x.GetUnit() != "" {
		text += " " + x.GetUnit()
	}
	if x.GetName() == "" {
		return text
	}
	return x.GetName() + "=" + text
}

// orDash fills an empty cell.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// instantFlag reads --since and --until: a duration back from now ("1h", "7d")
// or a time ("2026-05-01", "2026-05-01T12:00:00Z").
type instantFlag struct {
	at time.Time
}

// UnmarshalText implements encoding.TextUnmarshaler for the command line.
func (i *instantFlag) UnmarshalText(text []byte) error {
	s := string(text)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := time.ParseDuration(days + "h"); err == nil && n >= 0 {
			i.at = time.Now().Add(-24 * n)
			return nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		i.at = time.Now().Add(-d)
		return nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			i.at = t
			return nil
		}
	}
	return fmt.Errorf("%q is neither a duration such as 1h or 7d nor a time such as 2026-05-01T12:00:00Z", s)
}

// proto is the time, or nothing when it was not given.
func (i instantFlag) proto() *timestamppb.Timestamp {
	if i.at.IsZero() {
		return nil
	}
	return timestamppb.New(i.at)
}
