// Package rabbitmq is the recipe for a RabbitMQ broker of one's own: its node, its
// files and its port mapper are nobody else's, and listen on loopback only. Its AMQP
// 1.0 plugin is on; the user "guest" has the password "guest". It starts nothing.
package rabbitmq

import (
	"crypto/rand"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// Program is where Debian keeps the broker itself: the one on the PATH wants to be
// root, and runs it as another user.
const Program = "/usr/lib/rabbitmq/bin/rabbitmq-server"

// Conf is the broker's configuration but for what is its own (%ADDR%, %DIR%): what it
// ships with.
const Conf = "listeners.tcp.default = %ADDR%\nload_definitions = %DIR%/definitions.json\nlog.console = true\nlog.console.level = error\nlog.file = false\n"

// Broker is what to start: Mapper first, then Program with Env beside one's own
// environment, and RABBITMQ_DIST_PORT, a free port.
type Broker struct {
	Env    []string
	Mapper []string // a command line
}

// Prepare writes the files of a broker that is to listen at an address of loopback,
// with durable quorum queues of these names, into an empty directory.
func Prepare(dir, addr, mapperPort string, queues ...string) (Broker, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return Broker{}, err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	for file, text := range map[string]string{
		"enabled_plugins": "[rabbitmq_amqp1_0].\n", "definitions.json": definitions(queues), ".erlang.cookie": rand.Text() + "\n",
		"rabbitmq.conf": strings.NewReplacer("%ADDR%", addr, "%DIR%", dir).Replace(Conf), "env.conf": "", "advanced.config": "[].\n",
	} {
		if err := os.WriteFile(in(file), []byte(text), 0o400); err != nil {
			return Broker{}, err
		}
	}
	return Broker{
		Env: []string{
			"HOME=" + dir, "RABBITMQ_NODENAME=trib-" + strings.ToLower(rand.Text()[:8]) + "@localhost", "RABBITMQ_ALLOW_INPUT=1",
			"RABBITMQ_NODE_PORT=" + port, "ERL_EPMD_PORT=" + mapperPort, "ERL_EPMD_ADDRESS=127.0.0.1", "ERL_CRASH_DUMP=" + os.DevNull,
			"RABBITMQ_MNESIA_BASE=" + in("mnesia"), "RABBITMQ_LOG_BASE=" + in("log"),
			"RABBITMQ_CONFIG_FILE=" + in("rabbitmq"), "RABBITMQ_CONF_ENV_FILE=" + in("env.conf"),
			"RABBITMQ_ADVANCED_CONFIG_FILE=" + in("advanced"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + in("enabled_plugins"),
			"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-noinput -kernel inet_dist_use_interface {127,0,0,1}",
		},
		Mapper: []string{"epmd", "-address", "127.0.0.1", "-port", mapperPort},
	}, nil
}

// definitions are the queues, and who may use them, in the form the broker imports.
func definitions(queues []string) string {
	type object = map[string]any
	all := []object{}
	for _, name := range queues {
		all = append(all, object{"name": name, "vhost": "/", "durable": true, "auto_delete": false, "arguments": object{"x-queue-type": "quorum"}})
	}
	raw, _ := json.Marshal(object{
		"vhosts": []object{{"name": "/"}}, "users": []object{{"name": "guest", "password": "guest", "tags": ""}},
		"permissions": []object{{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}},
		"queues":      all,
	})
	return string(raw)
}
