"""The client for asyncio: the same names, awaited.

async with aio.Client(["a:50051", "b:50051"]) as client:
    async with await client.stream("co2", ["mauna-loa"]) as stream:
        forecast = await stream.step("mauna-loa", row)
"""

from tidegate.client.aio.client import Client
from tidegate.client.aio.stream import ForecastStream

__all__ = ["Client", "ForecastStream"]
