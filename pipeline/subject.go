package pipeline

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/tributary-iot/tributary/device"
)

// The streams and buckets, by name.
const (
	TelemetryStream    = "TELEMETRY"
	CommandStream      = "COMMANDS"
	CommandEventStream = "COMMAND_EVENTS"
	DeadLetterStream   = "DEAD_LETTERS"
	TopicStream        = "TOPICS"
	RetainedStream     = "RETAINED"
	SessionStream      = "SESSIONS"
	DeviceBucket       = "DEVICES"
	DeviceStream       = "KV_" + DeviceBucket // the bucket as a stream
	deviceBucketRoot   = "$KV." + DeviceBucket + "."
	TokenBucket        = "TOKENS"
	BatchBucket        = "BATCHES"
	LeaseStream        = "LEASES"
	GenerationStream   = "LEASE_GENERATIONS"
	NodeStream         = "NODES"
	PresenceStream     = "PRESENCE"
	PresenceLogStream  = "PRESENCE_EVENTS"
	telemetryRoot      = "telemetry"
	commandRoot        = "command"
	commandEventRoot   = "command-event"
	deadLetterRoot     = "deadletter"
	topicRoot          = "topic"
	topicNowRoot       = "topic-now"
	retainedRoot       = "retained"
	sessionRoot        = "session"
	sessionAskRoot     = "session-ask"
	shareHereRoot      = "share-here"
	echoAskRoot        = "echo-ask"
	leaseRoot          = "lease"
	generationSubject  = "lease-generation"
	nodeRoot           = "node"
	storeRoot          = "store"
	agreedRoot         = "agreed"
	presenceRoot       = "presence"
	presenceLogRoot    = "presence-event"
	everything         = ".>"
	subjectEscape      = '%'
	bucketKeyEscape    = '=' // bucket keys may not hold a %
	upperHex           = "0123456789ABCDEF"
)

// TelemetryRoot is the first level of the subjects of TELEMETRY.
const TelemetryRoot = telemetryRoot

// errSubject covers every subject these functions did not make.
var errSubject = errors.New("pipeline: not a subject of ours")

// TelemetrySubject is where a message of the device's channel is published:
// telemetry.<tenant>.<device>[.<channel levels>]. Names are validated before;
// the result is then at most about 1,400 bytes.
func TelemetrySubject(id device.ID, channel string) string {
	var room [128]byte
	b := appendDevice(append(room[:0], telemetryRoot...), id)
	if channel == "" {
		return string(b)
	}
	for level := range strings.SplitSeq(channel, "/") {
		b = appendLevel(append(b, '.'), level, subjectEscape)
	}
	return string(b)
}

// ParseTelemetrySubject is the reverse of TelemetrySubject; it takes nothing
// TelemetrySubject would not have made.
func ParseTelemetrySubject(subject string) (id device.ID, channel string, err error) {
	levels := strings.Split(subject, ".")
	if len(levels) < 3 || levels[0] != telemetryRoot {
		return id, "", errSubject
	}
	for i, level := range levels[1:] {
		if levels[1+i], err = unescape(level, subjectEscape); err != nil {
			return id, "", err
		}
	}
	id, channel = device.ID{Tenant: levels[1], Device: levels[2]}, strings.Join(levels[3:], "/")
	if TelemetrySubject(id, channel) != subject {
		return device.ID{}, "", errSubject
	}
	return id, channel, nil
}

// telemetryFilter is what a reader of a tenant's, or of one device's, messages
// filters by. A device needs two: a subject and everything below it.
func telemetryFilter(tenant, devicename string) []string {
	if devicename == "" {
		return []string{string(appendLevel([]byte(telemetryRoot+"."), tenant, subjectEscape)) + everything}
	}
	own := TelemetrySubject(device.ID{Tenant: tenant, Device: devicename}, "")
	return []string{own, own + everything}
}

// channelFilter is the subjects of a channel, and of those below it; of all devices of
// the tenant when no device is named.
func channelFilter(tenant, devicename, channel string, below bool) []string {
	level := []byte("*")
	if devicename != "" {
		level = appendLevel(nil, devicename, subjectEscape)
	}
	b := appendLevel([]byte(telemetryRoot+"."), tenant, subjectEscape)
	b = append(append(b, '.'), level...)
	for l := range strings.SplitSeq(channel, "/") {
		b = appendLevel(append(b, '.'), l, subjectEscape)
	}
	if below {
		return []string{string(b), string(b) + everything}
	}
	return []string{string(b)}
}

// commandSubject is a device's mailbox.
func commandSubject(id device.ID) string {
	return string(appendDevice([]byte(commandRoot), id))
}

// commandEventSubject is where the transitions of a device's commands go.
func commandEventSubject(id device.ID) string {
	return string(appendDevice([]byte(commandEventRoot), id))
}

// deadLetterSubject is where the refused messages of a device go.
func deadLetterSubject(id device.ID) string {
	return string(appendDevice([]byte(deadLetterRoot), id))
}

// deadLetterFilter is those of a device, or of all of a tenant's for "".
func deadLetterFilter(tenant, devicename string) string {
	if devicename == "" {
		return deadLetterRoot + "." + string(appendLevel(nil, tenant, subjectEscape)) + ".*"
	}
	return deadLetterSubject(device.ID{Tenant: tenant, Device: devicename})
}

// leaseSubject is where the sessions of a device take its lease.
func leaseSubject(id device.ID) string {
	return string(appendDevice([]byte(leaseRoot), id))
}

// nodeSubject is where the beats of an incarnation go, and its end.
func nodeSubject(n *NodeInfo) string {
	b := appendLevel([]byte(nodeRoot+"."), n.Name, subjectEscape)
	return string(appendLevel(append(b, '.'), n.Incarnation, subjectEscape))
}

// storeSubject is where the one persister of a store says so.
func storeSubject(name string) string {
	return string(appendLevel([]byte(storeRoot+"."), name, subjectEscape))
}

// presenceSubject is where an open session of a device stands on the list.
func presenceSubject(incarnation string, id device.ID, session string) string {
	b := appendLevel([]byte(presenceRoot+"."), incarnation, subjectEscape)
	b = appendDevice(b, id)
	return string(appendLevel(append(b, '.'), session, subjectEscape))
}

// presenceFilter is the open sessions of a tenant or of one device, on any node.
func presenceFilter(tenant, devicename string) string {
	b := append([]byte(presenceRoot+".*."), appendLevel(nil, tenant, subjectEscape)...)
	if devicename == "" {
		return string(b) + everything
	}
	return string(appendLevel(append(b, '.'), devicename, subjectEscape)) + ".*"
}

// presenceLogSubject is where the beginnings and ends of a tenant's sessions go.
func presenceLogSubject(tenant string) string {
	return string(appendLevel([]byte(presenceLogRoot+"."), tenant, subjectEscape))
}

// parseDeviceSubject reads <root>.<tenant>.<device>.
func parseDeviceSubject(root, subject string) (id device.ID, err error) {
	levels := strings.Split(subject, ".")
	if len(levels) != 3 || levels[0] != root {
		return id, errSubject
	}
	if id.Tenant, err = unescape(levels[1], subjectEscape); err != nil {
		return device.ID{}, err
	}
	if id.Device, err = unescape(levels[2], subjectEscape); err != nil {
		return device.ID{}, err
	}
	if string(appendDevice([]byte(root), id)) != subject {
		return device.ID{}, errSubject
	}
	return id, nil
}

// shards is how many parts the bucket's keys fall into, by hash
// (docs/decisions/0010-registry-by-shards.md).
const shards = 4096

// shardOf is the part an id's key is in: 12 bits of a SHA-256.
func shardOf(id device.ID) int {
	h := sha256.Sum256([]byte(id.Tenant + "/" + id.Device)) // no name holds a "/"
	return int(h[0])<<4 | int(h[1])>>4
}

// deviceKey is the key of an id in the bucket: shard.tenant.device, the shard
// as three hexadecimal digits, names escaped with "=".
func deviceKey(id device.ID) string {
	return tenantKey(shardOf(id), id.Tenant) + string(appendLevel(nil, id.Device, bucketKeyEscape))
}

// tenantKey is what the keys of a tenant's devices in a shard begin with.
func tenantKey(shard int, tenant string) string {
	return fmt.Sprintf("%03x.", shard) + string(appendLevel(nil, tenant, bucketKeyEscape)) + "."
}

// deviceRecordSubject is where the bucket keeps the record of an id.
func deviceRecordSubject(id device.ID) string { return deviceBucketRoot + deviceKey(id) }

// deviceRecordFilter is all records of a tenant in a shard.
func deviceRecordFilter(shard int, tenant string) string {
	return deviceBucketRoot + tenantKey(shard, tenant) + "*"
}

// parseDeviceKey is the reverse of deviceKey.
func parseDeviceKey(key string) (id device.ID, err error) {
	_, rest, _ := strings.Cut(key, ".")
	tenant, name, ok := strings.Cut(rest, ".")
	if !ok {
		return id, errSubject
	}
	if id.Tenant, err = unescape(tenant, bucketKeyEscape); err != nil {
		return device.ID{}, err
	}
	if id.Device, err = unescape(name, bucketKeyEscape); err != nil {
		return device.ID{}, err
	}
	if deviceKey(id) != key {
		return device.ID{}, errSubject
	}
	return id, nil
}

// tokenKey is the key of an API token in its bucket: tenant.name.
func tokenKey(tenant, name string) string {
	b := append(appendLevel(nil, tenant, bucketKeyEscape), '.')
	return string(appendLevel(b, name, bucketKeyEscape))
}

// parseTokenKey is the reverse of tokenKey.
func parseTokenKey(k string) (tenant, name string, err error) {
	first, second, ok := strings.Cut(k, ".")
	if !ok {
		return "", "", errSubject
	}
	if tenant, err = unescape(first, bucketKeyEscape); err != nil {
		return "", "", err
	}
	if name, err = unescape(second, bucketKeyEscape); err != nil {
		return "", "", err
	}
	if tokenKey(tenant, name) != k {
		return "", "", errSubject
	}
	return tenant, name, nil
}

func appendDevice(b []byte, id device.ID) []byte {
	b = appendLevel(append(b, '.'), id.Tenant, subjectEscape)
	return appendLevel(append(b, '.'), id.Device, subjectEscape)
}

// appendLevel escapes one level: bytes outside [A-Za-z0-9_-] become %XX in
// upper case, an empty level becomes a lone %.
func appendLevel(b []byte, level string, escape byte) []byte {
	if level == "" {
		return append(b, escape)
	}
	for i := range len(level) {
		if c := level[i]; plain(c) {
			b = append(b, c)
		} else {
			b = append(b, escape, upperHex[c>>4], upperHex[c&15])
		}
	}
	return b
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

func unescape(level string, escape byte) (string, error) {
	if level == string(rune(escape)) {
		return "", nil
	}
	b := make([]byte, 0, len(level))
	for i := 0; i < len(level); i++ {
		switch c := level[i]; {
		case plain(c):
			b = append(b, c)
		case c == escape && i+2 < len(level):
			hi, lo := strings.IndexByte(upperHex, level[i+1]), strings.IndexByte(upperHex, level[i+2])
			if hi < 0 || lo < 0 {
				return "", errSubject
			}
			b = append(b, byte(hi<<4|lo))
			i += 2
		default:
			return "", errSubject
		}
	}
	return string(b), nil
}
