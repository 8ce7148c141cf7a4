package device

import "strings"

// Keep says what of a channel's messages is worth keeping in a store.
type Keep uint8

// The policies.
const (
	KeepAll  Keep = iota // its history
	KeepLast             // the newest message, and the last value of each series
	KeepNone             // nothing: those who read the stream see it pass
)

var keepNames = [...]string{"all", "last", "none"}

func (k Keep) String() string { return keepNames[k] }

// KeepRule is a policy for the channels a pattern names:
//
//	rule    = pattern "=" ( "all" / "last" / "none" )
//	pattern = tenant "/" device "/" channel
//
// In each of the three a "*" stands for any run of characters, also none; in a
// channel that may be several levels. "default/thermostat-*/*=last" is every
// channel of these devices; "*/*/debug*=none" the channels of all devices whose
// name begins with debug; "*/*/=all" the main channel, which has no name.
type KeepRule struct {
	Tenant, Device, Channel string
	Keep                    Keep
}

// ParseKeepRule reads a rule. It answers an *Error of code Invalid.
func ParseKeepRule(text string) (r KeepRule, err error) {
	at := strings.LastIndexByte(text, '=')
	parts := strings.SplitN(text[:max(at, 0)], "/", 3)
	if at < 0 || len(parts) != 3 || parts[0] == "" || parts[1] == "" {
		return r, Errorf(Invalid, "%q is no rule: say TENANT/DEVICE/CHANNEL=POLICY, for example default/thermostat-*/*=last", text)
	}
	r.Tenant, r.Device, r.Channel = parts[0], parts[1], parts[2]
	for i, name := range keepNames {
		if text[at+1:] == name {
			r.Keep = Keep(i)
			return r, nil
		}
	}
	return r, Errorf(Invalid, "%q says to keep %q: say all, last or none", text, text[at+1:])
}

// KeepRules are asked in their order.
type KeepRules []KeepRule

// For answers what the first rule that names a channel says; without one,
// KeepAll.
func (rules KeepRules) For(id ID, channel string) Keep {
	for i := range rules {
		r := &rules[i]
		if matches(r.Tenant, id.Tenant) && matches(r.Device, id.Device) && matches(r.Channel, channel) {
			return r.Keep
		}
	}
	return KeepAll
}
