"""Puts tests/ on the path, so that tests say `from support.server import Server`."""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
