package main

import (
	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/topic"
)

// topicLimits bound what is kept of tenants' own topics.
type topicLimits struct {
	TopicsMaxBytes    int64 `key:"topics.max_bytes" type:"size" min:"1048576" default:"256MiB" placeholder:"SIZE" help:"Messages of tenants' own topics that are kept for subscribers who are slow or away: the newest stay."`
	TopicsMaxRetained int   `key:"topics.max_retained" min:"1" default:"100000" placeholder:"N" help:"Topics that may have a retained message."`
}

// openTopics serves the tenants' own topics.
func (h *house) openTopics(belt *pipeline.Belt, commands *command.Service) (*topic.Service, error) {
	service, err := topic.New(topic.Config{Logger: h.log.With("room", "topic"), Registerer: h.metrics}, belt.Topics(), commands)
	if err != nil {
		return nil, err
	}
	h.add(part{name: "topics", stop: service.Shutdown})
	return service, nil
}
