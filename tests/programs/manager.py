#!/usr/bin/python3
"""Plays systemd's part for one service of `Type=notify-reload` with `NotifyAccess=main`.

    manager.py FOLDER WATCHDOG_MS NAME[,NAME]... PROGRAM ARGUMENT...

Opens a socket on a free port of 127.0.0.1 for each name, starts the program with them (`LISTEN_FDS`), prints the port of
the first, then follows its input and answers with one line of JSON each:

state           what is known of the service
signal NAME     sends its main process a signal
reload          sends SIGHUP and waits until the service says that it is done, as `systemctl reload` does
stop            sends SIGTERM to the main process and waits until all have ended
quiet           counts from now on how late the watchdog was at most

What processes say that are not the main one is `ignored`. As systemd does it takes a main process that is named only
from the main process before, and only if there is such a process; where that ends, the service has.
"""

import ctypes
import json
import os
import select
import signal
import socket
import struct
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
folder, watchdog, names, program = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(","), sys.argv[4:]
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

sockets = []
for _ in names:
    opened = socket.socket()
    opened.bind(("127.0.0.1", 0))
    opened.listen(1024)
    sockets.append(opened)

path = os.path.join(folder, "notify")
ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
ear.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
ear.bind(path)


class Service:
    def __init__(self):
        self.state = "activating"
        self.status = None
        self.heard = []
        self.ignored = []
        self.mains = []
        self.ended = {}
        self.reload_since = None
        self.last_beat = None
        self.late = 0.0
        self.main = self.start()
        self.mains.append(self.main)

    def start(self):
        pid = os.fork()
        if pid:
            return pid
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        # As from the third on, and kept over the exec.
        copies = [os.dup(one.fileno()) for one in sockets]
        lifted = [fcntl_dup(copy, 100 + place) for place, copy in enumerate(copies)]
        for place, copy in enumerate(lifted):
            os.dup2(copy, 3 + place, inheritable=True)
        os.closerange(3 + len(lifted), 200)
        environment = dict(
            os.environ,
            NOTIFY_SOCKET=path,
            LISTEN_PID=str(os.getpid()),
            LISTEN_FDS=str(len(names)),
            LISTEN_FDNAMES=":".join(names),
        )
        if watchdog:
            environment.update(WATCHDOG_USEC=str(watchdog * 1000), WATCHDOG_PID=str(os.getpid()))
        os.execvpe(program[0], program, environment)

    def listen(self):
        text, control, _, _ = ear.recvmsg(65536, socket.CMSG_SPACE(struct.calcsize("3i")))
        credentials = [data for level, kind, data in control if kind == socket.SCM_CREDENTIALS]
        sender, _, _ = struct.unpack("3i", credentials[0])
        lines = text.decode().splitlines()
        if sender != self.main:
            self.ignored.append(lines)
            return
        said = dict(line.split("=", 1) for line in lines if "=" in line)
        if "WATCHDOG" not in said:
            self.heard.append(lines)
        if "STATUS" in said:
            self.status = said["STATUS"]
        if "MAINPID" in said:
            pid = int(said["MAINPID"])
            os.kill(pid, 0)
            self.main = pid
            self.mains.append(pid)
        if said.get("RELOADING") == "1":
            # It counts for a reload only if it is no older than that.
            since = int(said["MONOTONIC_USEC"])
            if self.reload_since is None or since >= self.reload_since:
                self.state = "reloading"
        if said.get("STOPPING") == "1":
            self.state = "stopping"
        if said.get("READY") == "1" and self.state in ("activating", "reloading"):
            if self.state == "reloading":
                self.reload_since = None
            self.state = "active"
            self.last_beat = self.last_beat or time.monotonic()
        if said.get("WATCHDOG") == "1":
            self.last_beat = time.monotonic()

    def look(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self.ended[pid] = os.waitstatus_to_exitcode(status)
            if pid == self.main:
                self.state = "inactive" if self.ended[pid] == 0 else "failed"
        if watchdog and self.state in ("active", "reloading"):
            self.late = max(self.late, time.monotonic() - self.last_beat)

    def told(self):
        return {
            "state": self.state,
            "status": self.status,
            "main": self.main,
            "mains": self.mains,
            "heard": self.heard,
            "ignored": self.ignored,
            "ended": self.ended,
            "late_ms": round(self.late * 1000),
            "ports": [one.getsockname()[1] for one in sockets],
        }


def fcntl_dup(descriptor, least):
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, least)


service = Service()


def turn(until=None, longest=20.0):
    """Serves what comes until this holds; without it until there is something to read on the input."""
    came = time.monotonic() + longest
    while True:
        readable, _, _ = select.select([ear] + ([] if until else [sys.stdin]), [], [], 0.02)
        if ear in readable:
            service.listen()
        service.look()
        if until and (until() or time.monotonic() > came):
            return
        if sys.stdin in readable:
            return


print(sockets[0].getsockname()[1], flush=True)
while True:
    turn()
    words = sys.stdin.readline().split()
    if not words:
        break
    if words[0] == "signal":
        os.kill(service.main, getattr(signal, "SIG" + words[1]))
    elif words[0] == "reload":
        service.reload_since = time.monotonic_ns() // 1000
        os.kill(service.main, signal.SIGHUP)
        turn(lambda: service.reload_since is None)
    elif words[0] == "stop":
        os.kill(service.main, signal.SIGTERM)
        turn(lambda: service.state in ("inactive", "failed"))
    elif words[0] == "quiet":
        service.late = 0.0
    print(json.dumps(service.told()), flush=True)
for pid in set(service.mains):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
