package options

import (
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Environment is the variables of a process that begin with Prefix.
type Environment map[string]string

// EnvironmentOf picks them out of os.Environ().
func EnvironmentOf(environ []string) Environment {
	e := Environment{}
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok && strings.HasPrefix(name, Prefix) {
			e[name] = value
		}
	}
	return e
}

// Stranger is a variable that begins with Prefix and that no command reads.
type Stranger struct {
	Name  string
	Meant string // the variable that was probably meant, or ""
}

// notOptions are variables that are ours and no option, and those that
// Kubernetes sets for a service of our name.
var notOptions = regexp.MustCompile(`^TRIBUTARY_(TEST_.*|REQUIRE_PEERS|(.*_)?SERVICE_(HOST|PORT.*)|(.*_)?PORT(_\d+_(TCP|UDP).*)?)$`)

// strangers answers the variables that are neither an option's nor one that a
// flag of any command names.
func (e Environment) strangers(model *kong.Node, options []Option) []Stranger {
	var known []string
	for _, o := range options {
		known = append(known, o.Env)
	}
	_ = kong.Visit(model, func(v kong.Visitable, next kong.Next) error {
		if f, ok := v.(*kong.Flag); ok {
			known = append(known, f.Envs...)
		}
		return next(nil)
	})
	var all []Stranger
	for name := range e {
		if !slices.Contains(known, name) && !notOptions.MatchString(name) {
			all = append(all, Stranger{name, meantBy(name, known)})
		}
	}
	slices.SortFunc(all, func(a, b Stranger) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// meantBy compares what follows the prefix: that the prefix is right says nothing.
func meantBy(name string, known []string) string {
	var bare []string
	for _, k := range known {
		bare = append(bare, strings.TrimPrefix(k, Prefix))
	}
	if near := nearest(strings.TrimPrefix(name, Prefix), bare); near != "" {
		return Prefix + near
	}
	return ""
}
