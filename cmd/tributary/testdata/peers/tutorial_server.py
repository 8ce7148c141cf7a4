# The server of the tutorials: hears a device's telemetry and tells it what to do.
import json
import sys
import threading

import paho.mqtt.client as mqtt

host, port, id = sys.argv[1], int(sys.argv[2]), sys.argv[3]
client_telemetry_topic = id + "/telemetry"
server_command_topic = id + "/commands"
done = threading.Event()

mqtt_client = mqtt.Client(id + "nightlight_server")
if len(sys.argv) > 4:
    mqtt_client.username_pw_set(sys.argv[4], sys.argv[5])


def handle_telemetry(client, userdata, message):
    payload = json.loads(message.payload.decode())
    if done.is_set():
        return
    print("telemetry", payload["light"], flush=True)
    client.publish(server_command_topic, json.dumps({"led_on": payload["light"] < 300}))
    done.set()


mqtt_client.on_message = handle_telemetry
mqtt_client.connect(host, port)
mqtt_client.loop_start()
mqtt_client.subscribe(client_telemetry_topic)
if not done.wait(60):
    sys.exit("no telemetry in time")
print("told", flush=True)
sys.stdin.read()  # stays until it may go, so that what it published leaves
mqtt_client.disconnect()
mqtt_client.loop_stop()
