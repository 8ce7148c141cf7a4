# The device of the tutorials: says what it measures, does what it is told.
import json
import sys
import threading
import time

import paho.mqtt.client as mqtt

host, port, id = sys.argv[1], int(sys.argv[2]), sys.argv[3]
client_telemetry_topic = id + "/telemetry"
server_command_topic = id + "/commands"
told = threading.Event()

mqtt_client = mqtt.Client(id + "nightlight_client")
if len(sys.argv) > 4:
    mqtt_client.username_pw_set(sys.argv[4], sys.argv[5])
mqtt_client.connect(host, port)
mqtt_client.loop_start()


def handle_command(client, userdata, message):
    print("command", message.payload.decode(), flush=True)
    told.set()


mqtt_client.subscribe(server_command_topic)
mqtt_client.on_message = handle_command

for _ in range(300):
    mqtt_client.publish(client_telemetry_topic, json.dumps({"light": 17}))
    if told.wait(0.2):
        break
else:
    sys.exit("nobody told me anything")
mqtt_client.disconnect()
mqtt_client.loop_stop()
