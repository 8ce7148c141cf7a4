package options

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Problem is one thing that is wrong, and where it was said.
type Problem struct {
	At   string // FILE:LINE:COLUMN, a variable's name, or "" when Text names a flag
	Text string

	line, column int // of the file
}

// before orders problems: flags, the environment, the file from top to bottom.
func (p Problem) before(q Problem) int {
	return cmp.Or(cmp.Compare(p.line, q.line), cmp.Compare(p.column, q.column), strings.Compare(p.String(), q.String()))
}

func (p Problem) String() string {
	if p.At == "" {
		return p.Text
	}
	return p.At + ": " + p.Text
}

// Problems is everything that is wrong with a configuration, one a line.
type Problems []Problem

func (p Problems) Error() string {
	var lines []string
	for _, one := range p {
		lines = append(lines, one.String())
	}
	return strings.Join(lines, "\n")
}

// ExitCode is that of a wrong command line.
func (Problems) ExitCode() int { return 2 }

// Wrong is a mistake in one option, found by whoever knows what it means.
type Wrong struct {
	Flag   string // without dashes
	Reason string // what is wrong and what to say instead; holds no secret
}

// Wrongf makes a Wrong.
func Wrongf(flag, format string, args ...any) error {
	return &Wrong{flag, fmt.Sprintf(format, args...)}
}

func (w *Wrong) Error() string { return "--" + w.Flag + ": " + w.Reason }

// Settled is how a command's options stand once every source was heard.
type Settled struct {
	Options  []Option
	Problems Problems
	Strange  []Stranger // variables that look like ours and are not

	from map[string]place // by flag name; absent for defaults
}

// Settle gives the options of the selected command the values that the file and
// the environment say, wherever the command line said nothing, and lists the items
// the file has. file names the configuration file; "" is none.
func Settle(ctx *kong.Context, file string, env Environment, lists ...List) *Settled {
	s := &Settled{Options: Of(ctx.Selected()), from: map[string]place{}, Strange: env.strangers(ctx.Model.Node, Of(ctx.Selected()))}
	for _, step := range ctx.Path {
		if step.Flag != nil {
			s.from[step.Flag.Name] = place{text: "--" + step.Flag.Name}
		}
	}
	s.hearEnvironment(env)
	if file != "" {
		s.hearFile(readFile(file, s.Options, lists))
	}
	for _, o := range s.Options {
		if err := o.bounds(); err != nil {
			s.Problems = append(s.Problems, s.locate(o, err.Error()))
		}
	}
	return s
}

func (s *Settled) hearEnvironment(env Environment) {
	for _, o := range s.Options {
		if text, said := env[o.Env]; said {
			s.hear(o, text, place{text: o.Env})
		}
	}
}

func (s *Settled) hearFile(f *file) {
	s.Problems = append(s.Problems, f.problems...)
	for _, one := range f.items {
		s.Options = append(s.Options, one.options...)
	}
	for _, e := range f.entries {
		for _, o := range s.Options {
			if o.Key == e.key {
				s.hear(o, e.text, e.at)
			}
		}
	}
	for _, one := range f.items {
		one.list.into.Set(reflect.Append(one.list.into, one.item.value.Elem()))
	}
}

// hear takes what a source says unless a stronger one has spoken. What is wrong
// is told in either case.
func (s *Settled) hear(o Option, text string, at place) {
	value, err := o.read(text)
	if err != nil {
		s.Problems = append(s.Problems, o.problem(at, Redact(err.Error())))
	}
	if _, spoken := s.from[o.Name()]; spoken {
		return
	}
	s.from[o.Name()] = at
	if err == nil {
		o.flag.Target.Set(value)
	}
}

// problem names the option the way the place at does.
func (o Option) problem(at place, text string) Problem {
	if o.item != nil && at.text == "" { // nobody said it: where the item begins
		at = o.item.at
	}
	switch at.text {
	case "", "--" + o.Name():
		return Problem{Text: "--" + o.Name() + ": " + text}
	case o.Env:
		return Problem{At: o.Env, Text: text}
	}
	return at.problem("%s: %s", o.Key, text)
}

func (s *Settled) locate(o Option, text string) Problem { return o.problem(s.from[o.Name()], text) }

// Add enters what a validation found; each Wrong in err is told where its
// option was said.
func (s *Settled) Add(err error) {
	var joined interface{ Unwrap() []error }
	var wrong *Wrong
	switch {
	case err == nil:
	case errors.As(err, &joined):
		for _, one := range joined.Unwrap() {
			s.Add(one)
		}
	case errors.As(err, &wrong):
		i := slices.IndexFunc(s.Options, func(o Option) bool { return o.Name() == wrong.Flag })
		if i < 0 {
			s.Problems = append(s.Problems, Problem{Text: wrong.Error()})
			return
		}
		s.Problems = append(s.Problems, s.locate(s.Options[i], wrong.Reason))
	default:
		s.Problems = append(s.Problems, Problem{Text: err.Error()})
	}
}

// Err is nil when nothing is wrong, else Problems.
func (s *Settled) Err() error {
	if len(s.Problems) == 0 {
		return nil
	}
	slices.SortFunc(s.Problems, Problem.before)
	return s.Problems
}

// Value is one option as it stands.
type Value struct {
	Name string // the key, or --flag where the file cannot hold it
	Text string // without secrets; "" when nothing is said
	From string // FILE:LINE:COLUMN, TRIBUTARY_…, --flag or "default"
}

// Said reports whether anybody said what the flag is, so that it is no default.
func (s *Settled) Said(flag string) bool {
	_, said := s.from[flag]
	return said
}

// Values answers every option as it stands, for people.
func (s *Settled) Values() []Value {
	var all []Value
	for _, o := range s.Options {
		v := Value{o.Key, o.shown(), s.from[o.Name()].text}
		if v.Name == "" {
			v.Name = "--" + o.Name()
		}
		if v.From == "" {
			v.From = "default"
		}
		if o.flag.Target.Kind() != reflect.Bool && o.flag.Target.IsZero() && v.From == "default" && o.flag.Default == "" {
			v.Text = ""
		}
		all = append(all, v)
	}
	return all
}
