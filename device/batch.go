package device

import "time"

// Batch is one command to many devices: what each is sent, how fast, and how far
// it is. The devices are those that were meant when it was made.
type Batch struct {
	ID       string // names it within its tenant
	Tenant   string
	Selector string  // by which the devices were found; "" when they were listed
	Command  Command // what each is sent; ID, Device, Key, CreatedAt and Deadline are unused
	TTL      time.Duration

	Rate         int // commands sent a second; 0: as fast as they go
	Window       int // commands sent that have not ended, at any time; 0: any number
	AbortPercent int // of those that have ended, so many failed: nothing more is sent; 0: whatever happens
	AbortAfter   int // but not before so many have ended

	CreatedAt time.Time
	EndedAt   time.Time // zero until nothing can change any more
	State     BatchState
	Reason    string // why it was cancelled or aborted
	Total     int    // devices
	Progress  BatchProgress
}

// BatchState is where a batch stands. The numbers are stored: never renumber.
type BatchState uint8

// The states. Once a batch is cancelled or aborted nothing more is sent; what was
// sent and can be withdrawn is, and the rest goes on to its own end.
const (
	BatchRunning   BatchState = 1
	BatchPaused    BatchState = 2 // nothing more is sent until it is resumed
	BatchCompleted BatchState = 3 // every device's command has ended
	BatchCancelled BatchState = 4 // by somebody
	BatchAborted   BatchState = 5 // because too many failed
)

var batchStateNames = [...]string{"NONE", "RUNNING", "PAUSED", "COMPLETED", "CANCELLED", "ABORTED"}

// String is the state as people see it.
func (s BatchState) String() string {
	if int(s) < len(batchStateNames) {
		return batchStateNames[s]
	}
	return batchStateNames[0]
}

// Stopped reports whether nothing more will be sent.
func (s BatchState) Stopped() bool {
	return s == BatchCompleted || s == BatchCancelled || s == BatchAborted
}

// BatchProgress counts devices by what became of their command. They add up to
// Batch.Total.
type BatchProgress struct {
	Unsent    int // nothing yet; at the end: not sent at all
	Pending   int // sent, and not ended
	Succeeded int // SUCCEEDED, one-way DELIVERED
	Failed    int
	Rejected  int
	Expired   int
	Cancelled int
	Refused   int // the command could not be sent to this device
}

// Bad counts those that ended and did not do what was asked, other than by
// being withdrawn.
func (p BatchProgress) Bad() int { return p.Failed + p.Rejected + p.Expired + p.Refused }

// Ended counts those whose command has ended, other than by being withdrawn.
func (p BatchProgress) Ended() int { return p.Succeeded + p.Bad() }

// BatchResult is what became of one device's command.
type BatchResult struct {
	Device  string
	Command string       // its id; "" when it was refused
	State   CommandState // StateNone when it was refused
	Status  int          // the device's answer
	Error   string       // why it was refused
}

// Limits of a batch.
const (
	MaxBatchDevices = 250_000
	MaxBatchPayload = 64 << 10
	MaxBatchAge     = 30 * 24 * time.Hour // then it is cancelled
)

// Validate checks what was asked for. It answers an *Error of code Invalid.
func (b *Batch) Validate() error {
	if err := validName("tenant", b.Tenant, MaxTenantBytes); err != nil {
		return err
	}
	if b.ID != "" {
		if err := validLabel("the batch's id", b.ID, false); err != nil {
			return err
		}
	}
	sample := b.Command
	sample.Tenant, sample.Device = b.Tenant, "any"
	switch {
	case b.Rate < 0 || b.Window < 0 || b.AbortAfter < 0:
		return Errorf(Invalid, "rate, window and abort_after must not be negative")
	case b.AbortPercent < 0 || b.AbortPercent > 100:
		return Errorf(Invalid, "abort_percent %d is not between 0 and 100", b.AbortPercent)
	case b.TTL < 0 || b.TTL > MaxBatchAge:
		return Errorf(Invalid, "ttl %v is not between 0 and %v, the longest a batch may last", b.TTL, MaxBatchAge)
	case b.Command.ResponseTimeout < 0 || b.Command.ResponseTimeout > MaxBatchAge:
		return Errorf(Invalid, "response_timeout %v is not between 0 and %v", b.Command.ResponseTimeout, MaxBatchAge)
	case b.Command.RetryPause < 0 || b.Command.RetryPause > MaxBatchAge:
		return Errorf(Invalid, "retry_pause %v is not between 0 and %v", b.Command.RetryPause, MaxBatchAge)
	case len(b.Command.Payload) > MaxBatchPayload:
		return Errorf(TooLarge, "the payload is %d bytes long, the limit in a batch is %d", len(b.Command.Payload), MaxBatchPayload)
	}
	return sample.Validate()
}
