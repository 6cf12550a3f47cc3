#!/usr/bin/python3
"""Runs a Kafka of one node until it is interrupted: for development, examples, and the unit tests of the bus.

    tools/kafka.py                         fetched if need be, on a free port, on a temporary directory
    tools/kafka.py --port 9092 --data DIR  there, and on data that stay
    tools/kafka.py --fetch                 only fetch it
    tools/kafka.py -- COMMAND …            run the command with BARID_TEST_KAFKA=HOST:PORT, then end

Needs Java 17 and, to fetch it the first time, Maven and a network: `tools/deps.sh test`.
"""
import argparse
import os
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests"))

from support.kafka import Kafka, KafkaMissing, jars  # noqa: E402


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--port", type=int)
    p.add_argument("--data", help="a directory for its data")
    p.add_argument("--fetch", action="store_true", help="only fetch it")
    p.add_argument("command", nargs="*", help="run this with BARID_TEST_KAFKA set, then end")
    return p.parse_args()


def serve(options):
    if options.data:
        os.makedirs(options.data, exist_ok=True)
    kafka = Kafka(directory=options.data and os.path.abspath(options.data))
    if options.port:
        kafka.port = options.port
        kafka.configure({})
    with kafka:
        if options.command:
            return subprocess.run(options.command, check=False,
                                  env={**os.environ, "BARID_TEST_KAFKA": kafka.address}).returncode
        print(kafka.url, flush=True)
        signal.pause()
    return 0


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        if options.fetch:
            print(jars())
            return 0
        return serve(options)
    except KeyboardInterrupt:
        return 0
    except KafkaMissing as e:
        print(e, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
