package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/tributary-iot/tributary/cmd/tributary/bench"
)

// benchCmd measures this machine.
type benchCmd struct {
	For         time.Duration `default:"60s" placeholder:"D" help:"How long each load lasts."`
	Connections int           `default:"50" placeholder:"N" help:"MQTT connections."`
	InFlight    int           `default:"20" placeholder:"N" help:"Unacknowledged messages on each MQTT connection."`
	Rate        int           `default:"0" placeholder:"N" help:"Messages a second of all MQTT connections together; 0: as fast as acks come."`
	Idle        int           `default:"0" placeholder:"N" help:"Instead: what N idle MQTT connections cost that wait for commands, and how fast they are made. Cases: mosquitto, mqtt-strict, over TLS mqtts-strict, over WebSocket ws-strict, over both wss-strict."`
	Case        []string      `placeholder:"NAME" help:"Only these: mosquitto, rabbitmq, mqtt-strict, amqp-strict, http-strict, mqtt-relaxed, amqp-relaxed, http-relaxed, calls-strict, topics-strict."`
	Profiles    string        `type:"existingdir" placeholder:"DIR" help:"Write DIR/CASE.pprof: where the server of each case spent its time."`
}

// Help is shown by `tributary bench --help`.
func (benchCmd) Help() string {
	return `Starts a server of its own for every case, on loopback and in a temporary
directory, loads it from this process, and reports acknowledged messages a
second, committed rows, the store's lag, ack latency and the server's CPU
seconds for a million messages. Brokers are measured beside it when installed:
mosquitto, which keeps nothing, and RabbitMQ with its AMQP 1.0 plugin, into a durable
quorum queue.
The case calls-strict measures commands: the round trip of a call to an MQTT device
beside a request over plain NATS, and a batch. The case topics-strict puts a tenant's
own topics beside mosquitto: publishing with each QoS, fan-out to 1 to 1,000
subscribers, how fast connections are made and the memory an idle one takes.

Examples:
  tributary bench --for 20s --case mosquitto,mqtt-strict
    how fast MQTT QoS 1 is acknowledged at most, beside mosquitto
  tributary bench --for 20s --case rabbitmq,amqp-strict
    the same for AMQP, unsettled, beside RabbitMQ
  tributary bench --case mqtt-strict --rate 2000
    how long an acknowledgement takes when 2,000 messages come every second
  tributary bench --case mqtt-strict --rate 40000 --for 5m
    whether the store keeps pace: the lag at the end is that at half-time
  tributary bench --case calls-strict --for 20s
    how long a call takes, and how fast a batch goes
  tributary bench --case topics-strict --for 10s
    topics and connections beside mosquitto
  tributary bench --idle 20000
    memory and CPU of 20,000 connections that wait, plain, over TLS and WebSocket`
}

// Run measures.
func (b *benchCmd) Run(ctx context.Context) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	o := bench.Options{
		Binary: binary, For: b.For, Connections: b.Connections, InFlight: b.InFlight, Rate: b.Rate, Idle: b.Idle, Cases: b.Case, Profiles: b.Profiles, Out: os.Stdout,
	}
	if b.Idle == 0 {
		return bench.Run(ctx, o)
	}
	if have, need := descriptors(), uint64(b.Idle+1000); have > 0 && have < need {
		return fmt.Errorf("this process may have %d files open and needs %d: raise the limit first (ulimit -n %d)", have, need, need)
	}
	return bench.Idle(ctx, o)
}
