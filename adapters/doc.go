// Package adapters states what a protocol adapter needs from the house and
// what it must keep. An adapter is one protocol: it owns its listeners, turns
// bytes into the words of package device, and turns errors back into its
// protocol's own words. It imports device, adapters, normalize and its protocol
// library, and knows nothing of NATS, stores or commands' inner life.
//
// # What an adapter keeps
//
//   - Acknowledge last. Receive, decode, Submit; only when done(nil) was called
//     may the peer be told that its message is safe. done(err) becomes a refusal
//     in the protocol's words, or a closed connection where there is none.
//   - Ack in order, without waiting in line. The read loop submits and reads on;
//     acks leave in the order the protocol asks for; the window of unacked
//     messages is bounded, and a full window stops reading the socket.
//   - Identity comes from the connection. Message.Tenant and Message.Device are
//     what Principal.SpeakFor answered, never what a payload claims.
//   - Bytes are hostile: bounded before allocation, a deadline on everything
//     that waits for a peer, a panic costs one connection.
//   - A refusal of an authenticated device is told to Gate.Refused with the raw
//     bytes, so that it leaves a trail; a failed authentication is only counted.
//   - Commands flow by credit: the adapter asks for as many as it can hand to
//     the device now (Attachment.Request), never buffers more, and settles each
//     exactly once. A delivery that was offered and not settled when the session
//     ends goes back to the queue by Detach; the adapter need not settle it.
//
// Package adaptertest proves most of this of any adapter.
package adapters
