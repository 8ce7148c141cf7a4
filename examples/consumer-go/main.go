// Command consumer-go reads telemetry from Tributary's NATS door and prints a
// line a message. It needs no library of Tributary's: the NATS client, and the
// Go code made of proto/tributary/v1/message.proto.
//
//	go run ./examples/consumer-go --data data --durable billing
//	go run ./examples/consumer-go --data data --filter 'telemetry.default.dev1.>'
//
// With --durable it goes on where it stopped the last time, and acknowledges
// what it has dealt with: what was fetched and not acknowledged comes again
// after half a minute. Without, it reads what the stream keeps and follows.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	tributaryv1 "github.com/tributary-iot/tributary/proto/tributary/v1"
)

func main() {
	data := flag.String("data", "tributary-data", "the server's data directory: its addresses and the token")
	durable := flag.String("durable", "", "keep this consumer's place under this name")
	filter := flag.String("filter", "telemetry.>", "telemetry.TENANT.DEVICE.CHANNEL, or with > for everything below")
	limit := flag.Int("n", 0, "stop after so many messages; 0: never")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := consume(ctx, *data, *durable, *filter, *limit); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func consume(ctx context.Context, data, durable, filter string, limit int) error {
	nc, err := connect(data)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	var consumer jetstream.Consumer
	if durable == "" {
		consumer, err = js.OrderedConsumer(ctx, "TELEMETRY", jetstream.OrderedConsumerConfig{FilterSubjects: []string{filter}})
	} else {
		consumer, err = js.CreateOrUpdateConsumer(ctx, "TELEMETRY", jetstream.ConsumerConfig{
			Durable: durable, FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy,
		})
	}
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	for n := 1; ; n++ {
		m, err := messages.Next()
		if err != nil {
			return err
		}
		if err := show(m.Data()); err != nil {
			return err
		}
		// Deal with the message first, then say so. An ordered consumer needs no saying.
		if err := m.DoubleAck(ctx); durable != "" && err != nil {
			return err
		}
		if n == limit {
			return nil
		}
	}
}

// connect reads where the door is, and the password, from the data directory.
func connect(data string) (*nats.Conn, error) {
	raw, err := os.ReadFile(filepath.Join(data, "addresses.json"))
	if err != nil {
		return nil, err
	}
	var addresses struct{ NATS string }
	if err := json.Unmarshal(raw, &addresses); err != nil {
		return nil, err
	}
	token, err := os.ReadFile(filepath.Join(data, "admin.token"))
	if err != nil {
		return nil, err
	}
	return nats.Connect("nats://"+addresses.NATS, nats.UserInfo("reader", strings.TrimSpace(string(token))))
}

// show decodes the body of a message, which is one tributary.v1.Message.
func show(body []byte) error {
	var m tributaryv1.Message
	if err := proto.Unmarshal(body, &m); err != nil {
		return err
	}
	fmt.Printf("%s/%s/%s %s", m.Tenant, m.Device, m.Channel, m.Protocol)
	for _, x := range m.Measurements {
		fmt.Printf(" %s=%s", x.Name, value(x))
	}
	fmt.Println()
	return nil
}

func value(x *tributaryv1.Measurement) string {
	switch v := x.Value.(type) {
	case *tributaryv1.Measurement_DoubleValue:
		return fmt.Sprint(v.DoubleValue)
	case *tributaryv1.Measurement_IntValue:
		return fmt.Sprint(v.IntValue)
	case *tributaryv1.Measurement_BoolValue:
		return fmt.Sprint(v.BoolValue)
	case *tributaryv1.Measurement_StringValue:
		return v.StringValue
	case *tributaryv1.Measurement_BytesValue:
		return fmt.Sprintf("%x", v.BytesValue)
	}
	return "?"
}
