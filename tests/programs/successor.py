#!/usr/bin/python3
"""A process that is started to take over from a gateway, and does not come to an end of it.

    successor.py STEP END [WORDS THAT IT IS KNOWN BY]

Speaks the protocol of the hand-over up to a step, and then ends: `kill` (as by `kill -9`), `hang` (says nothing more),
`nonsense` (says what nobody understands), `refuse` (says that it failed). Steps, in their order: `start`, `take`,
`given`, `sockets`, `ready`, `state`, `over`.
"""

import json
import os
import signal
import socket
import struct
import sys
import time

STEPS = ["start", "take", "given", "sockets", "ready", "state", "over"]
line = socket.socket(fileno=os.dup(0))
last, how = sys.argv[1], sys.argv[2]


def say(message):
    text = json.dumps(message).encode()
    line.sendall(struct.pack(">II", len(text), 0) + text)


def exactly(count):
    came = b""
    while len(came) < count:
        more = line.recv(count - len(came))
        if not more:
            sys.exit("the gateway is gone")
        came += more
    return came


def hear():
    message, behind = struct.unpack(">II", exactly(8))
    heard = json.loads(exactly(message))
    exactly(behind)
    return heard


def step(name):
    if name != last:
        return
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        time.sleep(3600)
    if how == "nonsense":
        line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        time.sleep(3600)
    say({"says": "failed", "why": "it does not want to"})
    sys.exit(3)


assert os.environ["GATEWAY_TAKES_OVER"] == "stdin"
step("start")
say({"says": "take", "protocol": 1, "version": "9.9.9", "pid": os.getpid()})
step("take")
given = hear()
assert given["says"] == "given", given
step("given")
descriptors = []
while len(descriptors) < len(given["sockets"]):
    _, some, _, _ = socket.recv_fds(line, 1, 100)
    descriptors += some
    line.sendall(b"a")
step("sockets")
say({"says": "ready", "taken": list(range(len(descriptors)))})
step("ready")
heard = hear()
while heard["says"] == "state":
    step("state")
    heard = hear()
assert heard["says"] == "over", heard
step("over")
