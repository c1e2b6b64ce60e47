"""Drives a stopped machine with the library qemu.qmp. Argument: the path of its monitor."""

import asyncio
import sys

from qemu.qmp import ExecuteError, QMPClient


async def refused(qmp, command, arguments, error_class):
    try:
        await qmp.execute(command, arguments)
    except ExecuteError as error:
        assert error.error_class == error_class, error
        return
    raise AssertionError(f"{command} succeeded")


async def main(path):
    qmp = QMPClient("test")
    await qmp.connect(path)
    assert qmp.greeting.QMP.version["qemu"]["major"] == 10
    # The library enables out-of-band execution where it is offered.
    assert "oob" in qmp.greeting.QMP.capabilities
    status = await qmp.execute("query-status")
    assert status == {"running": False, "status": "prelaunch"}, status

    schema = await qmp.execute("query-qmp-schema")
    assert any(entry["name"] == "blockdev-add" for entry in schema)

    with qmp.listener(["RESUME", "STOP"]) as listener:
        await qmp.execute("cont")
        await qmp.execute("stop")
        names = [(await asyncio.wait_for(listener.get(), 10))["event"] for _ in range(2)]
        assert names == ["RESUME", "STOP"], names

    await qmp.execute("blockdev-add", {"driver": "null-co", "node-name": "n0", "size": 4096})
    nodes = await qmp.execute("query-named-block-nodes", {"flat": True})
    assert [node["node-name"] for node in nodes] == ["n0"]
    await qmp.execute("blockdev-del", {"node-name": "n0"})

    await refused(qmp, "no-such-command", None, "CommandNotFound")
    await refused(qmp, "blockdev-del", {"node-name": "n0"}, "GenericError")
    await refused(qmp, "qom-get", {"path": "/no/such", "property": "x"}, "DeviceNotFound")

    # Many at once: answers find their commands.
    answers = await asyncio.gather(*(qmp.execute("query-name") for _ in range(8)))
    assert len(answers) == 8

    # The library puts an error without an id down to itself and goes away; so there must be none.
    raw = await qmp.execute_msg({"execute": "query-uuid"})
    assert raw["UUID"] == "00000000-0000-0000-0000-000000000000"
    await qmp.disconnect()

    again = QMPClient("again")
    await again.connect(path)
    assert await again.execute("quit") == {}
    try:
        await again.disconnect()
    except Exception as error:  # the program may be gone first
        assert "EOF" in repr(error) or "Connect" in repr(error), error
    print("all fine")


asyncio.run(asyncio.wait_for(main(sys.argv[1]), 60))
