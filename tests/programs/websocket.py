#!/usr/bin/python3
"""A WebSocket server that says back what it hears, and clients; both are the library `websockets`.

    websocket.py            prints its port, then follows its input, answering each line with one

    talk URI [CA]           a conversation: texts and bytes of all sizes, a ping, a goodbye
    hold URI                a connection that stays; answers with its number
    say NUMBER TEXT         says something on it, and tells what comes back
    ended NUMBER            the code that it was closed with, once it is
    seen                    the codes that the server's connections were closed with, and how many are open

The server answers /denied with 403, and closes with 4001 what is asked for at /close.
"""

import asyncio
import http
import ssl
import sys
import threading

import websockets

open_now = 0
codes = []
held = []


async def serve(ws, path=None):
    global open_now
    path = path or ws.path
    open_now += 1
    try:
        if path == "/close":
            await ws.close(4001, "as you like")
        async for message in ws:
            await ws.send(message)
    except websockets.ConnectionClosed:
        pass
    finally:
        open_now -= 1
        await ws.wait_closed()
        codes.append(ws.close_code)


async def denied(path, headers):
    if path == "/denied":
        return http.HTTPStatus.FORBIDDEN, [("X-Why", "no")], b"not you"
    return None


async def connect(uri, ca=None):
    more = {}
    if ca:
        more["ssl"] = ssl.create_default_context(cafile=ca)
        more["server_hostname"] = "a.test"
    return await websockets.connect(
        uri, subprotocols=["other", "chat"], compression=None, max_size=None, close_timeout=10, open_timeout=10, **more
    )


async def talk(uri, ca=None):
    ws = await connect(uri, ca)
    for size in (0, 1, 125, 126, 65535, 65536, 3_000_000):
        for message in ("é" * (size // 2), bytes(size)):
            await ws.send(message)
            back = await asyncio.wait_for(ws.recv(), 20)
            if back != message:
                return f"another message of {size} came back"
    # All at once, so that both ways are full.
    sent = [bytes([n]) * 200_000 for n in range(60)]

    async def send():
        for one in sent:
            await ws.send(one)

    sending = asyncio.ensure_future(send())
    for one in sent:
        if await asyncio.wait_for(ws.recv(), 20) != one:
            return "out of order"
    await sending
    await asyncio.wait_for(await ws.ping(), 10)
    await ws.close(1000, "bye")
    return f"ok {ws.close_code} {ws.subprotocol}"


async def follow(words):
    try:
        if words[0] == "talk":
            return await talk(*words[1:])
        if words[0] == "hold":
            held.append(await connect(words[1]))
            return str(len(held) - 1)
        if words[0] == "say":
            ws = held[int(words[1])]
            await ws.send(words[2])
            return await asyncio.wait_for(ws.recv(), 10)
        if words[0] == "ended":
            ws = held[int(words[1])]
            await asyncio.wait_for(ws.wait_closed(), 20)
            return str(ws.close_code)
        if words[0] == "seen":
            return f"{codes} {open_now}"
        return "what?"
    except Exception as error:  # told to who asked
        return f"{type(error).__name__} {error}".replace("\n", " ")


async def main():
    server = await websockets.serve(
        serve, "127.0.0.1", 0, subprotocols=["chat"], process_request=denied, max_size=None, close_timeout=10
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()

    def read():
        for line in sys.stdin:
            done = asyncio.run_coroutine_threadsafe(follow(line.split()), loop)
            print(done.result(), flush=True)
        loop.call_soon_threadsafe(loop.stop)

    threading.Thread(target=read, daemon=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except RuntimeError:
        pass  # nobody asks any more
