package main

import (
	"context"
	"time"

	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/topic"
)

// topicLimits bound what is kept of tenants' own topics.
type topicLimits struct {
	TopicsMaxBytes      int64         `key:"topics.max_bytes" type:"size" min:"1048576" default:"256MiB" placeholder:"SIZE" help:"Messages of tenants' own topics that are kept for subscribers who are slow or away: the newest stay."`
	TopicsMaxSessions   int           `key:"topics.max_sessions" min:"1" default:"100000" placeholder:"N" help:"Sessions that may outlive their connection, and wills of those that do not."`
	TopicsSessionExpiry time.Duration `key:"topics.session_expiry" min:"1s" default:"7d" placeholder:"TIME" help:"The longest a session may outlive its connection; one of MQTT 3.1.1 without clean session does for so long."`
	TopicsMaxRetained   int           `key:"topics.max_retained" min:"1" default:"100000" placeholder:"N" help:"Topics that may have a retained message."`
	TopicsBehindBytes   int64         `key:"topics.behind_bytes" type:"size" min:"64KiB" max:"64MiB" default:"1MiB" placeholder:"SIZE" help:"What waits in memory for a subscriber that takes it slower than it comes: messages with QoS 0 beyond that are dropped for it."`
}

// openTopics serves the tenants' own topics.
func (h *house) openTopics(ctx context.Context, belt *pipeline.Belt, node *pipeline.Node, commands *command.Service) (*topic.Service, error) {
	service, err := topic.New(topic.Config{Logger: h.log.With("room", "topic"), Registerer: h.metrics}, belt.Topics(), belt.Sessions(node), commands)
	if err != nil {
		return nil, err
	}
	h.add(part{name: "room of topics", run: func(ctx context.Context) error { return belt.Topics().KeepRoom(ctx, node.Elder) }})
	h.add(part{name: "topics", stop: service.Shutdown})
	return service, h.follow(ctx, "the sessions of topics", service.Run)
}
