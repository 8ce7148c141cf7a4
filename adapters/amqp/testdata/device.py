# A device on qpid-proton: settled and unsettled sends, a large message over small
# frames and one that is too large, a refusal, silence that only heartbeats bear, one
# command answered through its reply-to by the anonymous terminus, credit drained, and
# more sent at once than there is credit for.
import sys
from proton import ConnectionException, Delivery, Message, Timeout
from proton.utils import BlockingConnection, LinkDetached, SendException
from proton.reactor import AtMostOnce

addr, user, secret, silence = sys.argv[1:5]
options = dict(timeout=30, heartbeat=4)
if user:
    options.update(user=user, password=secret, allowed_mechs="PLAIN", sasl_enabled=True, allow_insecure_mechs=True)


def fail(what):
    print(what)
    sys.exit(1)


try:
    c = BlockingConnection("amqp://" + addr, **options)
except ConnectionException as e:
    print("refused", e)
    sys.exit(3)

s = c.create_sender("py/telemetry/room")
s.send(Message(body=b'{"temperature": 21.5}', content_type="application/json", id="k1", inferred=True))
s.send(Message(body='{"temperature": 22.5}', properties={"site": "north"}))
s.send(Message(body=b"x" * (1 << 20), inferred=True))
try:
    s.send(Message(body=b"{", content_type="application/json", inferred=True))
    fail("accepted what cannot be decoded")
except SendException:
    pass
c.create_sender("py/telemetry/settled", options=AtMostOnce()).send(Message(body=b"1", inferred=True))
try:
    c.create_sender("py/telemetry/large").send(Message(body=b"x" * (1 << 21), inferred=True))
    fail("accepted what is too large")
except LinkDetached as e:
    if e.condition != "amqp:link:message-size-exceeded":
        fail(e.condition)

try:
    c.wait(lambda: False, timeout=float(silence))
except Timeout:
    pass

relay = c.create_sender(None)
relay.send(Message(address="py/telemetry/relayed", body=b"1", inferred=True))
try:
    c.create_sender("nobody/nowhere")
    fail("attached to nowhere")
except LinkDetached as e:
    if e.condition != "amqp:not-found":
        fail(e.condition)

burst = c.create_sender("py/telemetry/burst")
sent = [burst.link.send(Message(body=b"%d" % n, inferred=True)) for n in range(10)]
c.wait(lambda: all(d.settled for d in sent), msg="the outcomes of more than there was credit for")
if any(d.remote_state != Delivery.ACCEPTED for d in sent):
    fail("a burst is not accepted")

r = c.create_receiver("py/commands", credit=1)
m = r.receive(timeout=30)
print("command", m.id, m.subject, bytes(m.body).decode(), m.reply_to)
r.accept()
r.link.drain(5)
c.wait(lambda: r.link.credit == 0, msg="the drain")
relay.send(Message(address=m.reply_to, correlation_id=m.correlation_id, properties={"status": 201}, body=b"done", inferred=True))
c.close()
