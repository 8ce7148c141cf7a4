package devicepb

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"

	"github.com/tributary-iot/tributary/device"
)

// tokenVersion is the first byte of a position token; another one is of a
// release that counts positions differently.
const tokenVersion = 1

// EncodePosition is the opaque token of a position, as APIs show and take it:
// URL-safe, about a dozen characters, with a check so that a mangled one is
// noticed instead of skipping messages.
func EncodePosition(p device.Position) string {
	b := []byte{tokenVersion}
	b = binary.AppendUvarint(b, p.Epoch)
	b = binary.AppendUvarint(b, p.Seq)
	b = binary.BigEndian.AppendUint16(b, uint16(crc32.ChecksumIEEE(b)))
	return base64.RawURLEncoding.EncodeToString(b)
}

// DecodePosition reads a token. Anything EncodePosition did not make is an
// error of code Invalid.
func DecodePosition(token string) (device.Position, error) {
	bad := device.Errorf(device.Invalid, "position is not a token this server gave; use the position of a message it answered")
	if len(token) > 64 {
		return device.Position{}, bad
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) < 5 || b[0] != tokenVersion {
		return device.Position{}, bad
	}
	body, check := b[:len(b)-2], binary.BigEndian.Uint16(b[len(b)-2:])
	if uint16(crc32.ChecksumIEEE(body)) != check {
		return device.Position{}, bad
	}
	var p device.Position
	epoch, n := binary.Uvarint(body[1:])
	if n <= 0 {
		return device.Position{}, bad
	}
	seq, m := binary.Uvarint(body[1+n:])
	if m <= 0 || 1+n+m != len(body) {
		return device.Position{}, bad
	}
	p.Epoch, p.Seq = epoch, seq
	if EncodePosition(p) != token { // one position, one token
		return device.Position{}, bad
	}
	return p, nil
}
