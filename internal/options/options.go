// Package options lets the flags of one command be said in three places: on the
// command line, in the environment and in a YAML file, in falling precedence.
// A flag is the whole declaration: its struct field's tags give name, default,
// help and bounds, and everything else follows from them:
//
//	key:"stream.keep_bytes"  the key in the file; without it the flag's name, with _ for -
//	type:"size"              bytes, or KiB to TiB; "address": HOST:PORT or off
//	min:"1" max:"1MiB"       bounds of a number, a size or a duration
//	enum:"strict,relaxed"    the only values there are
//
// The environment variable is TRIBUTARY_ and the flag's name in capitals. A List is
// what only the file can say: items with options of their own.
package options

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
)

// Prefix begins the name of every environment variable of ours.
const Prefix = "TRIBUTARY_"

// Option is one flag that is also a key and an environment variable.
type Option struct {
	flag *kong.Flag
	Key  string // in the file, with dots; "" when the file cannot hold it
	Env  string // "" when no variable can say it
	item *item  // of a list; nil for a flag
}

// Name is the flag's name, without dashes; in an item of a list, the key.
func (o Option) Name() string {
	if o.item != nil {
		return o.Key
	}
	return o.flag.Name
}

// Of answers the options of a command, in the order of their declaration.
func Of(node *kong.Node) []Option {
	var all []Option
	for _, f := range node.Flags {
		key := f.Tag.Get("key")
		switch key {
		case "":
			key = strings.ReplaceAll(f.Name, "-", "_")
		case "-":
			key = ""
		}
		all = append(all, Option{flag: f, Key: key, Env: envOf(f.Name)})
	}
	return all
}

func envOf(flag string) string {
	return Prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Kong are the settings of a parser for commands with options: how sizes,
// durations and addresses are read, and that a flag has an environment
// variable only where its tags name one. What Settle reads stands for itself.
func Kong() []kong.Option {
	return []kong.Option{
		kong.NamedMapper("size", textMapper(readSize)),
		kong.NamedMapper("address", textMapper(readAddress)),
		kong.TypeMapper(durationType, textMapper(readDuration)),
		kong.PostBuild(func(k *kong.Kong) error {
			return kong.Visit(k.Model, func(v kong.Visitable, next kong.Next) error {
				if f, ok := v.(*kong.Flag); ok && len(f.Envs) == 1 && f.Envs[0] == "-" {
					f.Envs, f.Value.Tag.Envs = nil, nil
				}
				return next(nil)
			})
		}),
	}
}

// read turns text into a value of the option's type.
func (o Option) read(text string) (reflect.Value, error) {
	value := reflect.New(o.flag.Target.Type()).Elem()
	scan := kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: text})
	if err := o.flag.Mapper.Decode(&kong.DecodeContext{Value: o.flag.Value, Scan: scan}, value); err != nil {
		return value, err
	}
	return value, o.allowed(value)
}

// allowed checks the values an enum lists.
func (o Option) allowed(value reflect.Value) error {
	if o.flag.Enum == "" {
		return nil
	}
	if value.Kind() == reflect.Slice {
		for i := range value.Len() {
			if err := o.allowed(value.Index(i)); err != nil {
				return err
			}
		}
		return nil
	}
	text, all := fmt.Sprint(value), o.flag.EnumSlice()
	for _, one := range all {
		if text == one {
			return nil
		}
	}
	hint := ""
	if meant := nearest(text, all); meant != "" {
		hint = "; did you mean " + meant + "?"
	}
	return fmt.Errorf("%q is not one of %s%s", text, strings.Join(all, ", "), hint)
}

// bounds checks min and max of the value the option has in the end.
func (o Option) bounds() error {
	if !o.flag.Target.CanInt() {
		return nil
	}
	for tag, outside := range map[string]func(value, bound int64) bool{
		"min": func(value, bound int64) bool { return value < bound },
		"max": func(value, bound int64) bool { return value > bound },
	} {
		text := o.flag.Tag.Get(tag)
		if text == "" {
			continue
		}
		bound, err := o.read(text)
		if err != nil {
			return fmt.Errorf("its own tag %s:%q: %w", tag, text, err)
		}
		if outside(o.flag.Target.Int(), bound.Int()) {
			return fmt.Errorf("%s is out of bounds: %s", o.shown(), o.between())
		}
	}
	return nil
}

// between says the bounds.
func (o Option) between() string {
	low, high := o.flag.Tag.Get("min"), o.flag.Tag.Get("max")
	switch {
	case low == "":
		return "choose at most " + high
	case high == "":
		return "choose at least " + low
	}
	return "choose between " + low + " and " + high
}
