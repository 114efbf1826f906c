"""A Flower that a test has started: whether it is there, and hears of workers."""

from __future__ import annotations

import httpx2

from tests.live import LivePlatform


def answers(client: httpx2.Client) -> bool:
    """Whether it has begun to serve."""
    try:
        return client.get("/healthcheck").is_success
    except httpx2.TransportError:
        return False


def sees_a_job(client: httpx2.Client, platform: LivePlatform) -> bool:
    """Whether it has heard of a job by now; one is run for that."""
    platform.wait_for(platform.submit("noop"))
    return bool(client.get("/api/tasks", params={"limit": 1}).json())
