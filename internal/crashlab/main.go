// Command crashlab breaks a server, again and again, under load, and counts what
// of the acknowledged messages is lost, doubled or out of order.
//
//	main.go     options, several victims side by side, the summary
//	lab.go      one victim and its devices, from the start to the verdict
//	round.go    load, a fault, the return
//	faults.go   the faults
//	victim.go   the server: the real program, a process of its own
//	ground.go   its data: a directory, or faultfs/, a disk that loses power
//	device*.go  devices on three protocols, with clients others wrote
//	ledger.go   what the devices sent and what was acknowledged
//	query.go    what is stored
//	verdict.go  the one compared with the other
//	locker.go   another process that locks the store
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

const about = `Breaks a Tributary server under load and holds it to its word: what it acknowledged
to a device comes back through Query, exactly once, in the device's order.

The server is the real program, built from this module, in a process of its own. Devices on MQTT 5, AMQP 1.0
and HTTP count upwards; seven of eight messages carry a key and are sent again, on a new connection, when they
were not acknowledged in time. Every acknowledgement goes into a ledger outside the server's disk. A round is
some seconds of load, then a fault at a moment and of a kind that the seed decides, then the return: the server
must be ready and acknowledge again by itself, and everything acknowledged so far must be in the store.
At the end the server is stopped, started, and everything is compared.

Faults (several, separated by commas, take turns by the seed):
  kill       kill -9
  stop       SIGSTOP for up to 8 s, then SIGCONT or kill -9
  powercut   kill -9, and what was written and not synced is gone: all of it, or a random part
  enospc     the disk fills up and is freed
  fsyncerr   fsync fails for a while; what it should have written is not
  writeerr   writes fail for a while
  storedown  only the store is locked, full or failing: devices must not notice
A third of the restarts are killed again while they recover. Three of ten outages have a kill or a power cut
in them, three a power cut soon after them.

All but kill and stop need root and /dev/fuse: the data is on a filesystem made for this
(internal/crashlab/faultfs, whose package comment says exactly what a cut may take).

The exit code is 0 when every promise was kept, 1 when one was broken, 2 when the run proves nothing: fewer than
1,000 acknowledgements, or a laboratory that broke itself. A run that is not clean keeps its directory: ledger,
server logs, the disk.

Examples:
  go run ./internal/crashlab --fault kill --rounds 200 --seed 1
  go run ./internal/crashlab --fault powercut --rounds 100 --parallel 4
  go run ./internal/crashlab --fault powercut --rounds 5 --durability relaxed --expect-loss   (the control run)
  go run ./internal/crashlab --fault powercut --seed 7 --first 31 --rounds 3   (rounds 31 to 33 of seed 7 again)`

// config is what the command line says.
type config struct {
	Fault      []string      `required:"" placeholder:"NAME" help:"What goes wrong; see above."`
	Rounds     int           `default:"10" help:"Rounds of all victims together."`
	Seed       uint64        `default:"1" help:"Decides moments, kinds and what a cut takes. The same seed decides the same; what the machine does meanwhile differs."`
	First      int           `default:"1" help:"Number of the first round, to replay one: each has draws of its own."`
	Durability string        `enum:"strict,relaxed" default:"strict" help:"The server's: strict or relaxed."`
	ExpectLoss bool          `help:"The run succeeds when acknowledged messages ARE lost, and nothing else is wrong: for --durability relaxed, which proves that this laboratory sees losses."`
	Names      string        `enum:"journal,strict" default:"journal" help:"When a name is durable: journal (an fsync of the file or its directory, as on ext4 and XFS) or strict (of the directory only, POSIX)."`
	Load       time.Duration `default:"5s" help:"Load before each fault, and up to a second more."`
	Rate       int           `default:"400" help:"Messages a second, to each victim."`
	Devices    int           `default:"4" help:"Devices on each protocol, of each victim."`
	Parallel   int           `default:"1" help:"Victims side by side, each with its share of the rounds and a seed one higher."`
	Work       string        `placeholder:"DIR" help:"Directory for everything; default: a temporary one, removed after a clean run."`
	With       []string      `sep:"none" placeholder:"ARG" help:"One more argument for the server, as in --with=--dedup-window=0s, which should make this laboratory complain."`
	Server     string        `placeholder:"FILE" help:"The program to break. Default: built from this module."`
}

const leastAcks = 1000 // below, a run proves nothing

func main() { os.Exit(run(os.Args[1:], os.Stdout)) }

func run(args []string, out io.Writer) int {
	if path := os.Getenv(lockEnv); path != "" {
		if err := lockStore(path); err != nil {
			fmt.Fprintln(os.Stderr, "crashlab: lock:", err)
			return 1
		}
		return 0
	}
	var c config
	parser := kong.Must(&c, kong.Name("crashlab"), kong.Description(about), kong.Writers(out, os.Stderr))
	if _, err := parser.Parse(args); err != nil {
		parser.Errorf("%v", err)
		return 2
	}
	if err := c.validate(); err != nil {
		parser.Errorf("%v", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return c.run(ctx, out)
}

func (c *config) validate() error {
	for _, name := range c.Fault {
		if _, known := faults[name]; !known {
			return fmt.Errorf("--fault %s: there are %s", name, list())
		}
	}
	if c.Rounds < 1 || c.Parallel < 1 || c.Devices < 1 || c.Rate < 1 || c.First < 0 {
		return errors.New("--rounds, --parallel, --devices and --rate are 1 or more")
	}
	c.Parallel = min(c.Parallel, c.Rounds)
	return nil
}

// run prepares, runs the victims and says what came of it.
func (c *config) run(ctx context.Context, out io.Writer) int {
	began, ours := time.Now(), c.Work == ""
	if ours {
		dir, err := os.MkdirTemp("", "crashlab-")
		if err != nil {
			fmt.Fprintln(out, err)
			return 2
		}
		c.Work = dir
	}
	sum, err := c.breakThem(ctx, &lines{out: out})
	code := c.verdict(sum, err)
	if err != nil {
		fmt.Fprintf(out, "crashlab: %v\n", err)
	}
	fmt.Fprintf(out, "%d rounds of %v, seed %d, %s durability, %s names, %d victims, took %s; %s\n",
		c.Rounds, c.Fault, c.Seed, c.Durability, c.Names, c.Parallel, time.Since(began).Round(time.Second), sum.more())
	if code == 0 && ours {
		if err := os.RemoveAll(c.Work); err != nil {
			fmt.Fprintln(out, err)
		}
	} else {
		fmt.Fprintf(out, "ledger, logs and disk are in %s\n", c.Work)
	}
	fmt.Fprintln(out, map[int]string{0: "PASS", 1: "FAIL", 2: "VOID"}[code]+":", sum)
	return code
}

// verdict is the exit code.
func (c *config) verdict(t tally, err error) int {
	switch {
	case t.broken() > 0, t.Lost > 0 && !c.ExpectLoss:
		return 1
	case err != nil || t.Acked < leastAcks:
		return 2
	case c.ExpectLoss && t.Lost == 0:
		return 1
	}
	return 0
}

// breakThem runs the victims side by side, and adds up.
func (c *config) breakThem(ctx context.Context, out io.Writer) (sum tally, err error) {
	program := c.Server
	if program == "" {
		program = filepath.Join(c.Work, "tributary")
		fmt.Fprintln(out, "building the server")
		if err := build(ctx, program); err != nil {
			return sum, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var labs sync.WaitGroup
	for id := range c.Parallel {
		share := *c
		share.Rounds = (c.Rounds + c.Parallel - 1 - id) / c.Parallel
		labs.Go(func() {
			t, e := share.one(ctx, id, program, out)
			mu.Lock()
			defer mu.Unlock()
			sum.add(t)
			if e != nil && !(ctx.Err() != nil && errors.Is(e, context.Canceled) && err != nil) {
				err = errors.Join(err, fmt.Errorf("[%d] %w", id, e))
				cancel() // the others need not go on
			}
		})
	}
	labs.Wait()
	return sum, err
}

func (c config) one(ctx context.Context, id int, program string, out io.Writer) (tally, error) {
	l, err := newLab(c, id, filepath.Join(c.Work, fmt.Sprint(id)), program, out)
	if err != nil {
		return tally{}, err
	}
	return l.run(ctx)
}

// lines lets several victims write whole lines.
type lines struct {
	mu  sync.Mutex
	out io.Writer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}
