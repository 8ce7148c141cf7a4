# Publishes numbers with QoS 2 and receives them with QoS 2 (or RECEIVE_QOS), all in
# sessions that outlive their connections, until standard input ends; then counts. On
# $share/GROUP/TOPIC those of a group receive them, each number with one of them.
import os
import sys
import threading
import time

import paho.mqtt.client as mqtt

host, port, taken = sys.argv[1], int(sys.argv[2]), sys.argv[3]
shared = taken.startswith("$share/")
topic = taken.split("/", 2)[2] if shared else taken
qos = int(os.environ.get("RECEIVE_QOS", "2"))
lock = threading.Lock()
room = threading.Semaphore(40)  # published and not finished
done = [0]
got = {}  # how often each number came
by = {}  # how many each subscriber got


def client(name):
    c = mqtt.Client(client_id=name, clean_session=False)
    c.reconnect_delay_set(min_delay=1, max_delay=1)
    c.max_inflight_messages_set(40)
    if len(sys.argv) > 4:
        c.username_pw_set(sys.argv[4], sys.argv[5])
    return c


# paho forgets at its second attempt to reconnect that it has sent PUBREL, and sends
# PUBLISH again, which 4.3.3 forbids: the server may be done with the identifier, and
# takes it for another message. Here it does not forget.
forgetful = mqtt.Client._messages_reconnect_reset_out


def reset_out(self):
    released = (mqtt.mqtt_ms_wait_for_pubcomp, mqtt.mqtt_ms_resend_pubrel)
    mids = [m.mid for m in self._out_messages.values() if m.state in released]
    forgetful(self)
    for mid in mids:
        self._out_messages[mid].state = mqtt.mqtt_ms_resend_pubrel


mqtt.Client._messages_reconnect_reset_out = reset_out


def received(c, userdata, message):
    with lock:
        n = int(message.payload)
        got[n] = got.get(n, 0) + 1
        by[userdata] = by.get(userdata, 0) + 1


def published(c, userdata, mid):
    with lock:
        done[0] += 1
    room.release()


def subscribe(name):
    subscribed = threading.Event()
    c = client(name)
    c.user_data_set(name)
    c.on_message = received
    c.on_subscribe = lambda *args: subscribed.set()
    c.on_connect = lambda *args: subscribed.is_set() or c.subscribe(taken, qos=qos)
    c.connect(host, port, keepalive=10)
    c.loop_start()
    if not subscribed.wait(30):
        sys.exit(name + " is not subscribed in time")


members = ["sub", "sub2", "sub3"] if shared else ["sub"]
for name in members:
    subscribe(name)
pub = client("pub")
pub.on_publish = published
pub.connect(host, port, keepalive=10)
pub.loop_start()
print("ready", flush=True)

ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
sent = 0
while not ended.is_set():
    if room.acquire(timeout=0.2):
        pub.publish(topic, str(sent), qos=2)
        sent += 1
deadline = time.time() + 120  # what a member of a group held comes again after half a minute
while time.time() < deadline:
    with lock:
        if done[0] == sent and len(got) == sent:
            break
    time.sleep(0.05)
time.sleep(0.5)  # what comes twice comes late
with lock:
    lost = [n for n in range(sent) if n not in got]
    doubled = [n for n in got if got[n] > 1]
    idle = [name for name in members if name not in by]
print("sent", sent, "unfinished", sent - done[0], "lost", lost[:20], "doubled", len(doubled), doubled[:20], "got", by, flush=True)
sys.exit(1 if lost or idle or doubled and qos == 2 or sent != done[0] else 0)
