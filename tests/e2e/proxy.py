"""What stands between the connector and the outside: it remembers where to, and can be slow."""

from __future__ import annotations

import asyncio
import threading

# Chunks that may be on their way at once, for a bound.
ON_THE_WAY = 4096


class Between:
    """Takes connections in a thread of its own until `close`.

    `delay` is how long everything takes from one side to the other, in seconds; it may be changed at any time.
    """

    def __init__(self, host: str, port: int, delay: float = 0):
        self.delay = delay
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="between", daemon=True)
        self.thread.start()
        started = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, host, port), self.loop)
        self.server = started.result(10)

    async def _serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            if opened := await self._open(near, back):
                far, forth = opened
                await asyncio.gather(self._copy(near, forth), self._copy(far, back))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            back.close()

    async def _open(self, near, back) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        raise NotImplementedError

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        chunks: asyncio.Queue = asyncio.Queue(ON_THE_WAY)

        async def take() -> None:
            chunk = b"?"
            while chunk:
                chunk = await source.read(65536)
                await chunks.put((self.loop.time() + self.delay, chunk))

        taking = asyncio.create_task(take())
        try:
            while True:
                due, chunk = await chunks.get()
                await asyncio.sleep(due - self.loop.time())
                if not chunk:
                    break
                sink.write(chunk)
                await sink.drain()
        finally:
            taking.cancel()
            sink.close()

    async def _end(self) -> None:
        self.server.close()
        open_ = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in open_:
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


class Proxy(Between):
    """An HTTP proxy that knows nothing but CONNECT."""

    def __init__(self, host: str, port: int, delay: float = 0):
        self.url = f"http://{host}:{port}"
        self.targets: list[str] = []
        super().__init__(host, port, delay)

    async def _open(self, near, back):
        head = (await near.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        if method != "CONNECT":
            back.write(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            return None
        self.targets.append(target)
        host, port = target.rsplit(":", 1)
        opened = await asyncio.open_connection(host, int(port))
        back.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return opened


class Relay(Between):
    """Everything goes to another port of the same host."""

    def __init__(self, host: str, port: int, target: int, delay: float = 0):
        self.host, self.target = host, target
        super().__init__(host, port, delay)

    async def _open(self, near, back):
        return await asyncio.open_connection(self.host, self.target)
