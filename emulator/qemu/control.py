#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Talks to the bench side of an emulated DSA in a running lab box.

    control.py SOCKET DEVICE COMMAND

SOCKET is what `labbox --control` was given, DEVICE the name of a DSA (dsa0),
COMMAND one of the device model's. Prints the model's answer. The command
`report` asks for the whole report, however long.
"""

import json
import socket
import sys


class Monitor:
    """A connection to QEMU's machine protocol (QMP)."""

    def __init__(self, path):
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(path)
        self.stream = self.connection.makefile("rw", encoding="utf-8")
        self.stream.readline()
        self.execute("qmp_capabilities")

    def execute(self, command, **arguments):
        """Runs a command and returns its answer; events are skipped."""
        json.dump({"execute": command, "arguments": arguments}, self.stream)
        self.stream.flush()
        for line in self.stream:
            answer = json.loads(line)
            if "error" in answer:
                sys.exit(f"labbox: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        sys.exit("labbox: the box went away")


def run(monitor, device, command):
    """Has the model of `device` carry out `command`; returns its answer."""
    path = f"/machine/peripheral/{device}"
    if command == "report":
        return monitor.execute("qom-get", path=path, property="report")
    monitor.execute("qom-set", path=path, property="control", value=command)
    return monitor.execute("qom-get", path=path, property="control")


def main():
    if len(sys.argv) != 4:
        sys.exit("usage: control.py SOCKET DEVICE COMMAND")
    try:
        monitor = Monitor(sys.argv[1])
    except OSError as error:
        sys.exit(f"labbox: no box at {sys.argv[1]}: {error.strerror}")
    answer = run(monitor, sys.argv[2], sys.argv[3])
    if answer:
        print(answer)


if __name__ == "__main__":
    main()
