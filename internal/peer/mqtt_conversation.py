# HOST PORT VERSION [USER SECRET]: every QoS, retained messages, a session that goes on
# and a will, with Python's paho on 3.1.1 (4) or 5. It prints "away" while the session
# that is to go on has no connection, goes on at a line of standard input, and says "well".
# PEER_CA, PEER_CERT, PEER_KEY and PEER_WEB are as for the devices of cmd/tributary.
import os, sys, threading, time, paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.packettypes import PacketTypes
host, port, version = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
got, lock = [], threading.Lock()
def connect(name, keep=False, will=False):
    ok = threading.Event()
    web = {"transport": "websockets"} if os.environ.get("PEER_WEB") else {}
    c = mqtt.Client(client_id=name, protocol=version, **web, **({} if version == 5 else {"clean_session": not keep}))
    if os.environ.get("PEER_CA"):
        c.tls_set(os.environ["PEER_CA"], os.environ.get("PEER_CERT"), os.environ.get("PEER_KEY"))
    if len(sys.argv) > 4: c.username_pw_set(sys.argv[4], sys.argv[5])
    c.on_connect = lambda *a: (setattr(c, "present", a[2]["session present"] if isinstance(a[2], dict) else a[2].session_present), ok.set())
    def on_message(cl, u, m):
        told = dict(getattr(m.properties, "UserProperty", [])) if version == 5 else {}
        with lock: got.append("%s %s%s" % (m.topic, m.payload.decode(), told.get("k", "")))
    c.on_message = on_message
    if will: c.will_set("t/will", "gone", qos=1)
    if version == 5:
        p = Properties(PacketTypes.CONNECT)
        if keep: p.SessionExpiryInterval = 3600
        c.connect(host, port, 30, clean_start=not keep, properties=p)
    else:
        c.connect(host, port, 30)
    c.loop_start()
    assert ok.wait(20), "not connected"
    return c
def expect(*want):
    end = time.time() + 20
    while time.time() < end:
        with lock:
            if len(got) >= len(want): break
        time.sleep(0.02)
    with lock:
        assert sorted(got) == sorted(want), (got, want)
        del got[:]
def subscribe(c, topic, qos):
    ok = threading.Event()
    c.on_subscribe = lambda *a: ok.set()
    c.subscribe(topic, qos)
    assert ok.wait(20), "not subscribed"
pub = connect("pub")
said, k = {}, ""
if version == 5:
    said["properties"] = Properties(PacketTypes.PUBLISH)
    said["properties"].UserProperty, k = ("k", "v"), "v"
pub.publish("t/1", "x", qos=1, retain=True, **said).wait_for_publish()
sub = connect("sub", keep=True)
subscribe(sub, "t/#", 2)
for q in (0, 2): pub.publish("t/%d" % q, "x", qos=q, **said).wait_for_publish()
expect("t/0 x" + k, "t/1 x" + k, "t/2 x" + k)
sub.disconnect(); sub.loop_stop()
print("away", flush=True); sys.stdin.readline()
for q in (1, 2): pub.publish("t/missed", str(q), qos=q).wait_for_publish()
sub = connect("sub", keep=True)
assert sub.present
expect("t/missed 1", "t/missed 2")
lost = connect("lost", will=True)
lost._sock.close()
expect("t/will gone")
late = connect("late")
subscribe(late, "t/1", 1)
expect("t/1 x" + k)
for c in (connect("one"), connect("two")): subscribe(c, "$share/g/s/#", 1)
for q in (1, 2): pub.publish("s/%d" % q, "x", qos=q).wait_for_publish()
expect("s/1 x", "s/2 x")
print("well", flush=True)
