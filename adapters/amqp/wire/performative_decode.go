package wire

import "math"

func (p *Open) decode(f *fields) {
	p.ContainerID = required(f, "container-id", (*reader).string)
	p.Hostname = field(f, (*reader).string, "")
	p.MaxFrameSize = field(f, (*reader).uint, math.MaxUint32)
	p.ChannelMax = field(f, (*reader).ushort, math.MaxUint16)
	p.IdleTimeOut = field(f, (*reader).uint, 0)
	f.skip() // outgoing-locales
	f.skip() // incoming-locales
	p.Offered = field(f, symbols, nil)
	p.Desired = field(f, symbols, nil)
	f.skip() // properties
}

func (p *Begin) decode(f *fields) {
	p.RemoteChannel = optional(f, (*reader).ushort)
	p.NextOutgoingID = required(f, "next-outgoing-id", (*reader).uint)
	p.IncomingWindow = required(f, "incoming-window", (*reader).uint)
	p.OutgoingWindow = required(f, "outgoing-window", (*reader).uint)
	p.HandleMax = field(f, (*reader).uint, math.MaxUint32)
}

func (p *Attach) decode(f *fields) {
	p.Name = required(f, "name", (*reader).string)
	p.Handle = required(f, "handle", (*reader).uint)
	p.Role = required(f, "role", (*reader).bool)
	p.SndSettleMode = field(f, (*reader).ubyte, SndMixed)
	p.RcvSettleMode = field(f, (*reader).ubyte, RcvFirst)
	p.Source = field(f, readSource, nil)
	p.Target = field(f, readTarget, nil)
	f.skip() // unsettled: links are not resumed
	f.skip() // incomplete-unsettled
	p.InitialDeliveryCount = optional(f, (*reader).uint)
	p.MaxMessageSize = field(f, (*reader).ulong, 0)
	p.Offered = field(f, symbols, nil)
	p.Desired = field(f, symbols, nil)
	if p.SndSettleMode > SndMixed || p.RcvSettleMode > RcvSecond {
		f.fail(malformed("settle modes %d and %d", p.SndSettleMode, p.RcvSettleMode))
	}
}

func (p *Flow) decode(f *fields) {
	p.NextIncomingID = optional(f, (*reader).uint)
	p.IncomingWindow = required(f, "incoming-window", (*reader).uint)
	p.NextOutgoingID = required(f, "next-outgoing-id", (*reader).uint)
	p.OutgoingWindow = required(f, "outgoing-window", (*reader).uint)
	p.Handle = optional(f, (*reader).uint)
	p.DeliveryCount = optional(f, (*reader).uint)
	p.LinkCredit = optional(f, (*reader).uint)
	p.Available = optional(f, (*reader).uint)
	p.Drain = field(f, (*reader).bool, false)
	p.Echo = field(f, (*reader).bool, false)
}

func (p *Transfer) decode(f *fields) {
	p.Handle = required(f, "handle", (*reader).uint)
	p.DeliveryID = optional(f, (*reader).uint)
	p.DeliveryTag = field(f, (*reader).bytes, nil)
	p.MessageFormat = optional(f, (*reader).uint)
	p.Settled = optional(f, (*reader).bool)
	p.More = field(f, (*reader).bool, false)
	p.RcvSettleMode = optional(f, (*reader).ubyte)
	f.skip() // state: of resumed deliveries
	p.Resume = field(f, (*reader).bool, false)
	p.Aborted = field(f, (*reader).bool, false)
}

func (p *Disposition) decode(f *fields) {
	p.Role = required(f, "role", (*reader).bool)
	p.First = required(f, "first", (*reader).uint)
	p.Last = optional(f, (*reader).uint)
	p.Settled = field(f, (*reader).bool, false)
	p.State = field(f, readState, nil)
}

func (p *Detach) decode(f *fields) {
	p.Handle = required(f, "handle", (*reader).uint)
	p.Closed = field(f, (*reader).bool, false)
	p.Error = field(f, readError, nil)
}

func (p *End) decode(f *fields) { p.Error = field(f, readError, nil) }

func (p *Close) decode(f *fields) { p.Error = field(f, readError, nil) }
