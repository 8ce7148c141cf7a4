# A device on qpid-proton: settled and unsettled sends, a large message, a
# refusal, one command answered through its reply-to, one fetch that drains.
import sys
from proton import Message, ConnectionException
from proton.utils import BlockingConnection, SendException, LinkDetached
from proton.reactor import AtMostOnce

addr, user, secret = sys.argv[1:4]
options = dict(timeout=15, heartbeat=2)
if user:
    options.update(user=user, password=secret, allowed_mechs="PLAIN", sasl_enabled=True, allow_insecure_mechs=True)

try:
    c = BlockingConnection("amqp://" + addr, **options)
except ConnectionException as e:
    print("refused", e)
    sys.exit(3)

s = c.create_sender("py/telemetry/room")
s.send(Message(body=b'{"temperature": 21.5}', content_type="application/json", id="k1", inferred=True))
s.send(Message(body='{"temperature": 22.5}', properties={"site": "north"}))
s.send(Message(body=b"x" * 1000000, inferred=True))
try:
    s.send(Message(body=b"{", content_type="application/json", inferred=True))
    print("accepted what cannot be decoded")
    sys.exit(1)
except SendException:
    pass
c.create_sender("py/telemetry/settled", options=AtMostOnce()).send(Message(body=b"1", inferred=True))

relay = c.create_sender(None)
relay.send(Message(address="py/telemetry/relayed", body=b"1", inferred=True))
try:
    c.create_sender("nobody/nowhere")
    print("attached to nowhere")
    sys.exit(1)
except LinkDetached:
    pass

r = c.create_receiver("py/commands", credit=1)
m = r.receive(timeout=15)
print("command", m.id, m.subject, bytes(m.body).decode(), m.reply_to)
r.accept()
relay.send(Message(address=m.reply_to, correlation_id=m.correlation_id, properties={"status": 201}, body=b"done", inferred=True))
c.close()
