import os
import sys

from proton import Message, SSLDomain
from proton.handlers import MessagingHandler
from proton.reactor import Container

host, port, device = sys.argv[1], sys.argv[2], sys.argv[3]
credentials = {}
if len(sys.argv) > 4:
    credentials = {"user": sys.argv[4], "password": sys.argv[5], "allowed_mechs": "PLAIN"}
scheme = "amqp"
if os.environ.get("PEER_CA"):
    scheme = "amqps"
    domain = SSLDomain(SSLDomain.MODE_CLIENT)
    domain.set_trusted_ca_db(os.environ["PEER_CA"])
    domain.set_peer_authentication(SSLDomain.VERIFY_PEER_NAME)
    if os.environ.get("PEER_CERT"):
        domain.set_credentials(os.environ["PEER_CERT"], os.environ["PEER_KEY"], None)
        credentials["allowed_mechs"] = "EXTERNAL"
    credentials["ssl_domain"] = domain


class Device(MessagingHandler):
    def __init__(self):
        super().__init__(prefetch=4)
        self.sent = False
        self.answers = None
        self.obeyed = None

    def on_start(self, event):
        self.conn = event.container.connect("%s://%s:%s" % (scheme, host, port), reconnect=False, heartbeat=10, **credentials)
        self.telemetry = event.container.create_sender(self.conn, device + "/telemetry/room")

    def on_sendable(self, event):
        if event.sender == self.telemetry and not self.sent:
            self.sent = True
            self.telemetry.send(Message(body=b'{"temperature":21.5}', inferred=True, content_type="application/json"))
        if event.sender == self.answers and self.obeyed and not self.obeyed[0]:
            self.obeyed[0] = True
            m = self.obeyed[1]
            self.answers.send(Message(body=b'{"ok":true}', inferred=True, correlation_id=m.id, properties={"status": 200}))

    def on_message(self, event):
        self.obeyed = [False, event.message]
        self.answers = event.container.create_sender(self.conn, event.message.reply_to)

    def on_accepted(self, event):
        if event.sender == self.telemetry:
            print("sent", flush=True)
            event.container.create_receiver(self.conn, device + "/commands")
        else:
            m = self.obeyed[1]
            print("obeyed", m.subject, bytes(m.body).decode(), flush=True)
            self.conn.close()

    def on_rejected(self, event):
        print("rejected", event.delivery.remote.condition, flush=True)
        self.conn.close()
        sys.exit(1)

    def on_transport_error(self, event):
        print("transport error", event.transport.condition, flush=True)
        sys.exit(1)


Container(Device()).run()
