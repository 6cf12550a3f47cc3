"""With the disk full: publishing is refused, the alarm is told, taking messages goes on, and it passes."""
import os

import pytest

from support.disk import fill, small_disk
from support.management import Management
from support.server import Server, eventually


def publish(api):
    return api.call("POST", "exchanges", "/", "amq.default", "publish", routing_key="q", payload="x" * 1000,
                    payload_encoding="string", properties={"delivery_mode": 2})


def test_the_alarm_is_told_and_passes():
    with small_disk() as disk:
        if not disk:
            pytest.skip("mounting a small file system needs root")
        data = os.path.join(disk, "data")
        os.mkdir(data)
        with Server(data=data, management=True, args=["--low-water", "64M"]) as server:
            api = Management(server)
            api.put("queues", "/", "q", durable=True)
            assert publish(api).json() == {"routed": True}
            assert api.get("nodes")[0]["disk_free_limit"] == 16 << 20
            filler = fill(disk, leave=1 << 20)
            [refused] = eventually(lambda: [a for a in [publish(api)] if a.status_code != 200], 20, "a full disk")
            assert (refused.status_code, refused.json()["error"]) == (503, "service_unavailable")
            assert int(refused.headers["Retry-After"]) > 0
            alarm = api.get("health", "checks", "alarms", status=503)
            assert alarm["status"] == "failed" and alarm["alarms"][0]["resource"] == "disk"
            assert api.get("nodes")[0]["disk_free_alarm"] is True
            [got] = api.post("queues", "/", "q", "get", count=1, ackmode="ack_requeue_true", encoding="auto")
            assert got["payload"] == "x" * 1000
            os.unlink(filler)
            eventually(lambda: publish(api).status_code == 200, 20, "room being noticed")
            assert api.get("health", "checks", "alarms")["status"] == "ok"
