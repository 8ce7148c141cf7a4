"""An application: reads what its tenant's devices say, and has a device heat when it
is cold. Prints what it sees."""
import sys

from proton import Data, Described, Message, Terminus, symbol
from proton.handlers import MessagingHandler
from proton.reactor import Container, Filter, ReceiverOption

host, port, device = sys.argv[1], sys.argv[2], sys.argv[3]
credentials = {}
if len(sys.argv) > 4:
    credentials = {"user": sys.argv[4], "password": sys.argv[5], "allowed_mechs": "PLAIN"}


class First(Filter):
    """Begins with the first message the stream keeps."""

    def __init__(self):
        super().__init__({symbol("from"): Described(symbol("tributary:from"), "first")})


class Shared(ReceiverOption):
    """A subscription that several receivers share, and that outlives them."""

    def apply(self, receiver):
        receiver.source.capabilities.put_array(False, Data.SYMBOL)
        receiver.source.capabilities.enter()
        for word in ("shared", "global"):
            receiver.source.capabilities.put_symbol(word)
        receiver.source.capabilities.exit()
        receiver.source.durability = Terminus.DELIVERIES
        receiver.source.expiry_policy = Terminus.EXPIRE_NEVER


class Application(MessagingHandler):
    def __init__(self):
        super().__init__(prefetch=4)

    def on_start(self, event):
        c = self.conn = event.container.connect("amqp://%s:%s" % (host, port), reconnect=False, heartbeat=10, **credentials)
        self.answers = event.container.create_receiver(c, None, dynamic=True)
        self.telemetry = event.container.create_receiver(
            c, device + "/telemetry/room", name=device + "-heating", options=[First(), Shared()])
        self.commands = event.container.create_sender(c, device + "/commands")

    def on_message(self, event):
        m = event.message
        if event.receiver == self.telemetry:
            print("read", m.annotations["x-opt-device"], bytes(m.body).decode(), flush=True)
            self.commands.send(Message(subject="heat", body=b"on", inferred=True, correlation_id="c1",
                                       reply_to=self.answers.remote_source.address))
            return
        print("told", m.correlation_id, m.properties["state"], int(m.properties["status"]), bytes(m.body).decode(), flush=True)
        if m.properties["state"] != "QUEUED":
            self.conn.close()

    def on_link_error(self, event):
        print("link error", event.link.remote_condition, flush=True)
        sys.exit(1)

    on_transport_error = on_rejected = on_link_error


Container(Application()).run()
