package device

import (
	"slices"
	"strings"
)

// Selector means the devices whose labels meet every one of its requirements; the
// empty one means all. It is written as Kubernetes writes label selectors:
//
//	selector    = requirement *( "," requirement )
//	requirement = key ( "=" / "==" / "!=" ) value
//	            / key ( "in" / "notin" ) "(" value *( "," value ) ")"
//	            / key             ; has the label, whatever its value: a group
//	            / "!" key         ; has it not
//
// "!=" and "notin" also mean devices without that label. Spaces may stand between
// words.
type Selector []Requirement

// Requirement is one condition on one label.
type Requirement struct {
	Key    string
	Not    bool     // the opposite
	Values []string // one of these; none: whether the label is there
}

// MaxSelectorBytes bounds the text of a Selector.
const MaxSelectorBytes = 2048

// ParseSelector reads a selector. It answers an *Error of code Invalid.
func ParseSelector(text string) (Selector, error) {
	if len(text) > MaxSelectorBytes {
		return nil, Errorf(Invalid, "the selector is %d bytes long, the limit is %d", len(text), MaxSelectorBytes)
	}
	p := selectorText{rest: text}
	if p.peek() == "" {
		return nil, nil
	}
	var s Selector
	for {
		r, err := p.requirement()
		if err != nil {
			return nil, err
		}
		s = append(s, r)
		switch p.word() {
		case "":
			return s, nil
		case ",":
		default:
			return nil, p.wrong("a comma between requirements")
		}
	}
}

// Matches reports whether a device with these labels is meant.
func (s Selector) Matches(l Labels) bool {
	for _, r := range s {
		value, there := l[r.Key]
		if len(r.Values) > 0 {
			there = there && slices.Contains(r.Values, value)
		}
		if there == r.Not {
			return false
		}
	}
	return true
}

// String is a text that reads as the same selector.
func (s Selector) String() string {
	var all []string
	for _, r := range s {
		var one string
		switch {
		case len(r.Values) == 0 && r.Not:
			one = "!" + r.Key
		case len(r.Values) == 0:
			one = r.Key
		case len(r.Values) == 1 && r.Not:
			one = r.Key + "!=" + r.Values[0]
		case len(r.Values) == 1:
			one = r.Key + "=" + r.Values[0]
		case r.Not:
			one = r.Key + " notin (" + strings.Join(r.Values, ",") + ")"
		default:
			one = r.Key + " in (" + strings.Join(r.Values, ",") + ")"
		}
		all = append(all, one)
	}
	return strings.Join(all, ",")
}

// selectorText is what is left to read, word by word.
type selectorText struct{ rest string }

// peek is the next word: a name, or one of , ( ) = == != !; "" at the end.
func (p *selectorText) peek() string {
	p.rest = strings.TrimLeft(p.rest, " \t")
	for n := range len(p.rest) {
		if !labelByte(p.rest[n], true) {
			switch {
			case n > 0:
				return p.rest[:n]
			case strings.HasPrefix(p.rest, "!="), strings.HasPrefix(p.rest, "=="):
				return p.rest[:2]
			}
			return p.rest[:1]
		}
	}
	return p.rest
}

func (p *selectorText) word() string {
	w := p.peek()
	p.rest = p.rest[len(w):]
	return w
}

func (p *selectorText) wrong(want string) error {
	return Errorf(Invalid, "the selector lacks %s before %q; write k=v, k!=v, k in (a,b), k notin (a,b), k or !k", want, p.rest)
}

func (p *selectorText) requirement() (r Requirement, err error) {
	if p.peek() == "!" {
		p.word()
		r.Not = true
	}
	r.Key = p.word()
	if err := validLabel("a key of the selector", r.Key, true); err != nil {
		return r, err
	}
	if r.Not {
		return r, nil
	}
	switch op := p.peek(); op {
	case "=", "==", "!=":
		p.word()
		r.Not = op == "!="
		r.Values = make([]string, 1)
		r.Values[0], err = p.value()
	case "in", "notin":
		p.word()
		r.Not = op == "notin"
		r.Values, err = p.values()
	}
	return r, err
}

// values reads what stands in parentheses.
func (p *selectorText) values() (all []string, err error) {
	if p.word() != "(" {
		return nil, p.wrong("a parenthesis")
	}
	for {
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		all = append(all, v)
		switch p.word() {
		case ")":
			return all, nil
		case ",":
		default:
			return nil, p.wrong("a closing parenthesis")
		}
	}
}

// value reads a value, which may be empty.
func (p *selectorText) value() (string, error) {
	if w := p.peek(); w == "" || w == "," || w == ")" {
		return "", nil
	}
	v := p.word()
	return v, validLabel("a value of the selector", v, false)
}
