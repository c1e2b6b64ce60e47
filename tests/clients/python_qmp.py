#!/usr/bin/env python3
"""Drives the program with clients no one here wrote: QEMU's Python library qemu.qmp, and its qmp-shell.

Run by scripts/test in a virtual environment with tests/clients/requirements.txt; QVMD names the program.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import traceback

from qemu.qmp import ExecuteError, EventListener, QMPClient, Runstate

PROGRAM = os.environ["QVMD"]
SHELL = os.path.join(os.path.dirname(sys.executable), "qmp-shell")
LIMIT = 30  # seconds for a test


def listens(path):
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


@contextlib.asynccontextmanager
async def daemon(*args, machine="none"):
    """The program, without a machine as a rule, with two QMP sockets: gives their paths and the process."""
    with tempfile.TemporaryDirectory(prefix="clients.") as at:
        paths = [f"{at}/qmp{i}" for i in range(2)]
        sockets = [word for path in paths for word in ("-qmp", f"unix:{path},server=on,wait=off")]
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "-machine", machine, "-nodefaults", "-no-user-config", "-display", "none", *sockets, *args,
            stdin=asyncio.subprocess.DEVNULL)
        try:
            while not all(map(listens, paths)):
                assert process.returncode is None, f"the program ended with {process.returncode}"
                await asyncio.sleep(0.01)
            yield paths, process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def client(path):
    qmp = QMPClient("test")
    await qmp.connect(path)
    try:
        yield qmp
    finally:
        if qmp.runstate != Runstate.IDLE:
            with contextlib.suppress(EOFError):  # the program was told to quit
                await qmp.disconnect()


async def test_greeting_and_queries():
    async with daemon("-name", "kim") as (paths, _), client(paths[0]) as qmp:
        assert qmp.greeting.QMP.version["qemu"]["major"] >= 10
        assert "oob" in qmp.greeting.QMP.capabilities
        assert (await qmp.execute("query-name")) == {"name": "kim"}
        names = {command["name"] for command in await qmp.execute("query-commands")}
        assert {"query-status", "quit", "qmp_capabilities"} <= names


async def test_refusals_have_class_and_words():
    async with daemon() as (paths, _), client(paths[0]) as qmp:
        cases = [
            ("no-such-command", {}, "CommandNotFound", "The command no-such-command has not been found"),
            ("query-status", {"x": 1}, "GenericError", "Parameter 'x' is unexpected"),
            ("blockdev-del", {}, "GenericError", "Parameter 'node-name' is missing"),
            ("blockdev-del", {"node-name": 1}, "GenericError", "Invalid parameter type for 'node-name', expected: string"),
        ]
        for command, arguments, kind, words in cases:
            try:
                await qmp.execute(command, arguments)
            except ExecuteError as error:
                assert (error.error_class, str(error)) == (kind, words), f"{command}: {error.error_class}: {error}"
            else:
                raise AssertionError(f"{command} {arguments} was not refused")


async def test_out_of_band():
    async with daemon() as (paths, _), client(paths[0]) as qmp:
        try:
            await qmp.execute("query-status", oob=True)
        except ExecuteError as error:
            assert "does not support OOB" in str(error), error
        else:
            raise AssertionError("query-status was run out of band")


async def test_many_at_once_are_answered_each():
    async with daemon() as (paths, _), client(paths[0]) as qmp:
        answers = await asyncio.gather(*(qmp.execute("query-status") for _ in range(200)))
        assert all(answer["status"] for answer in answers)


async def test_two_monitors_and_reconnection():
    async with daemon() as (paths, _), client(paths[1]) as other:
        for _ in range(30):
            async with client(paths[0]) as qmp:
                await qmp.execute("query-version")
        assert (await other.execute("query-status"))["running"] in (True, False)


async def test_events_reach_every_monitor():
    async with daemon() as (paths, process), client(paths[0]) as one, client(paths[1]) as two:
        listeners = [EventListener("SHUTDOWN") for _ in range(2)]
        for qmp, listener in zip((one, two), listeners):
            qmp.register_listener(listener)
        await one.execute("quit")
        for listener in listeners:
            event = await listener.get()
            assert event["data"] == {"guest": False, "reason": "host-qmp-quit"}, event
        assert await process.wait() == 0


async def test_descriptors_are_passed():
    async with daemon() as (paths, _), client(paths[0]) as qmp:
        with open("/dev/null") as file:
            qmp.send_fd_scm(file.fileno())
            await qmp.execute("getfd", {"fdname": "null"})
            await qmp.execute("closefd", {"fdname": "null"})
            qmp.send_fd_scm(file.fileno())
            added = await qmp.execute("add-fd", {"opaque": "null"})
        sets = await qmp.execute("query-fdsets")
        assert [s["fdset-id"] for s in sets] == [added["fdset-id"]], sets
        await qmp.execute("remove-fd", {"fdset-id": added["fdset-id"]})
        assert await qmp.execute("query-fdsets") == []


async def test_it_connects_to_a_listening_client():
    with tempfile.TemporaryDirectory(prefix="clients.") as at:
        qmp = QMPClient("listener")
        await qmp.start_server(f"{at}/in")
        async with daemon("-qmp", f"unix:{at}/in"):
            await qmp.accept()
            assert (await qmp.execute("query-version"))["qemu"]["major"] >= 10
            await qmp.disconnect()


async def shell(path, *lines, options=()):
    process = await asyncio.create_subprocess_exec(
        SHELL, *options, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out, _ = await process.communicate("".join(f"{line}\n" for line in lines).encode())
    return out.decode()


async def test_qmp_shell():
    async with daemon() as (paths, _):
        said = await shell(
            paths[0], "query-status", "qom-list path=/", "blockdev-add driver=null-co node-name=n0 size=1048576",
            "query-named-block-nodes", "blockdev-del node-name=n0", "blockdev-del node-name=n0",
            'chardev-add id=c0 backend={"type":"ringbuf","data":{"size":4096}}',
            "ringbuf-write device=c0 data=hello", "ringbuf-read device=c0 size=16", "chardev-remove id=c0")
        for words in ('"status"', '"name": "objects"', '"node-name": "n0"', "hello",
                      "Failed to find node with node-name='n0'"):
            assert words in said, f"no {words} in {said}"


async def test_qmp_shell_for_people():
    # The shell names processor 0 in each command, so there has to be one.
    accelerator = "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "qtest"
    async with daemon("-S", machine=f"q35,accel={accelerator}") as (paths, _):
        said = await shell(paths[0], "info status", "info version", options=["-H"])
        assert "VM status:" in said, said
        assert "10." in said, said


def main():
    tests = [(name, test) for name, test in globals().items() if name.startswith("test_")]
    failed = 0
    for name, test in tests:
        try:
            asyncio.run(asyncio.wait_for(test(), LIMIT))
            print(f"ok      {name}")
        except Exception:  # a test's verdict, whatever it is
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}")
    print(f"{len(tests) - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
