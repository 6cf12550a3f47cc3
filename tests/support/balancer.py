"""A load balancer as clients see it: an address behind which another server answers every time.

    somewhere = Balancer(servers)            # the next one for each request or connection
    at_first = Balancer([servers[0]])        # always the same
    Api(somewhere)                           # a client of it
"""
import itertools
import threading


class Balancer:
    def __init__(self, servers):
        self.servers = list(servers)
        self.turn = itertools.count()
        self.lock = threading.Lock()

    def next(self):
        with self.lock:
            return self.servers[next(self.turn) % len(self.servers)]

    @property
    def url(self):
        return self.next().url

    @property
    def port(self):
        return self.next().port
