"""An HTTP proxy that knows nothing but CONNECT, and remembers where to."""

from __future__ import annotations

import asyncio
import threading


class Proxy:
    """Runs in a thread of its own until `close`."""

    def __init__(self, host: str, port: int):
        self.url = f"http://{host}:{port}"
        self.targets: list[str] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="proxy", daemon=True)
        self.thread.start()
        started = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, host, port), self.loop)
        self.server = started.result(10)

    async def _serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            head = (await near.readuntil(b"\r\n\r\n")).decode()
            method, target, _ = head.split(" ", 2)
            if method != "CONNECT":
                back.write(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
                return
            self.targets.append(target)
            host, port = target.rsplit(":", 1)
            far, forth = await asyncio.open_connection(host, int(port))
            back.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(self._copy(near, forth), self._copy(far, back))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            back.close()

    @staticmethod
    async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while chunk := await source.read(65536):
                sink.write(chunk)
                await sink.drain()
        finally:
            sink.close()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
