import os
import sys
import threading

import paho.mqtt.client as mqtt

host, port, device = sys.argv[1], int(sys.argv[2]), sys.argv[3]
obeyed = threading.Event()
connected = threading.Event()
web = bool(os.environ.get("PEER_WEB"))
client = mqtt.Client(client_id=device, transport="websockets" if web else "tcp")
if os.environ.get("PEER_CA"):
    client.tls_set(os.environ["PEER_CA"], os.environ.get("PEER_CERT"), os.environ.get("PEER_KEY"))
if len(sys.argv) > 4:
    client.username_pw_set(sys.argv[4], sys.argv[5])


def on_connect(c, userdata, flags, rc):
    if rc != 0:
        print("refused", rc, flush=True)
        c.disconnect()
        sys.exit(1)
    connected.set()


def on_message(c, userdata, message):
    _, _, command, name = message.topic.split("/", 3)
    answer = c.publish("%s/responses/%s/200" % (device, command), b'{"ok":true}', qos=1)
    threading.Thread(target=finish, args=(answer, name, message.payload)).start()


def finish(answer, name, payload):
    answer.wait_for_publish()
    print("obeyed", name, payload.decode(), flush=True)
    obeyed.set()


client.on_connect = on_connect
client.on_message = on_message
client.connect(host, port, keepalive=30)
client.loop_start()
if not connected.wait(30):
    sys.exit("not connected in time")
client.publish(device + "/telemetry/room", b'{"temperature":21.5}', qos=1).wait_for_publish()
print("sent", flush=True)
client.subscribe(device + "/commands/#", qos=1)
if not obeyed.wait(60):
    sys.exit("no command in time")
client.disconnect()
client.loop_stop()
