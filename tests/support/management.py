"""A client of the management API of a Server(management=True).

    api = Management(server)
    api.put("queues", "/", "orders", durable=True)
    api.get("queues", "/", "orders")["messages"]
"""
import urllib.parse

import requests


class Management:
    """The management API as one user. Every call gives the bare response."""

    def __init__(self, server, user="guest", password="guest"):
        self.base = f"http://127.0.0.1:{server.management_port}/api"
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.auth = (user, password) if user else None

    def call(self, method, *words, query="", headers=None, **body):
        path = "/".join(urllib.parse.quote(word, safe="") for word in words)
        json = body.pop("json", body or None)
        return self.http.request(method, f"{self.base}/{path}{query}", json=json, headers=headers, timeout=20)

    def get(self, *words, query="", status=200):
        answer = self.call("GET", *words, query=query)
        assert answer.status_code == status, answer.text
        return answer.json()

    def put(self, *words, status=201, **body):
        answer = self.call("PUT", *words, **body)
        assert answer.status_code == status, answer.text
        return answer

    def post(self, *words, status=200, **body):
        answer = self.call("POST", *words, **body)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else answer

    def delete(self, *words, query="", status=204, headers=None):
        answer = self.call("DELETE", *words, query=query, headers=headers)
        assert answer.status_code == status, answer.text
        return answer
