"""A process that forks while its threads are busy: the child is never left waiting.

Each kind of object is used by four threads while the process forks again and again. The children
use the same object and exit; one that waits for a lock of the parent's is killed after half a
minute.
"""

from __future__ import annotations

import json
import threading

import pytest

from agentkit._fork import ForkGate
from tests.forks import forks
from tests.interruptions import in_time
from tests.programs import run

LONG = 60.0
PROGRAMS = 3
"""How many programs share the kinds of objects: each has to import agentkit."""
PROGRAM = '''
import json, os, signal, sys, threading, warnings
warnings.simplefilter("ignore")  # newer Pythons warn of any fork with threads

class Number(int):
    """Adds in Python, so that a thread can be interrupted where it does sums under a lock."""
    def __add__(self, other):
        return Number(int(self) + int(other))
    __radd__ = __add__

class Key(str):
    def __hash__(self):
        return hash(str(self))

def codes_of_children(setup):
    names = {"Number": Number, "Key": Key, "os": os}
    exec(setup, names)
    work, ended = names["work"], []

    def busy():
        while not ended:
            work()

    work()
    sys.setswitchinterval(1e-6)  # so that threads are often interrupted while they hold a lock
    threads = [threading.Thread(target=busy, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    codes = []
    for _ in range(16):
        child = os.fork()
        if child == 0:
            sys.setswitchinterval(0.005)
            signal.alarm(30)
            work()
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        if codes[-1]:
            break
    ended.append(True)
    sys.setswitchinterval(0.005)
    for thread in threads:
        thread.join()
    return sorted(set(codes))

for name, setup in json.loads(sys.argv[1]).items():
    codes = codes_of_children(setup)
    print(name, codes, flush=True)
    if codes != [0]:
        break
os._exit(0)
'''

SETUPS = {
    "recorder": """
from agentkit.telemetry.recorder import Recorder
from agentkit.types.ledger import Entry
recorder, entry = Recorder(), Entry("a", "p", "success", 1)
def work():
    recorder.attempt(entry)
""",
    "spending budget": """
from agentkit import Budget
from agentkit.policy.limits import Need
from agentkit.types import Usage
budget = Budget(tokens=10**9)
def work():
    budget.settle(budget.reserve(Need(Number(1), 1), None, "a"), Usage(1, 1))
""",
    "retry budget": """
from agentkit.policy.retry import RetryBudget
budget = RetryBudget(500)
def work():
    budget.spend(1)
    budget.earn()
""",
    "metrics middleware": """
from agentkit import MetricsMiddleware
middleware = MetricsMiddleware()
def work():
    middleware.metrics
""",
    "measurements": """
from agentkit.telemetry.deferred import Deferred
deferred = Deferred()
def work():
    deferred.add(Number, (1,))
    deferred.record()
""",
    "breaker": """
from agentkit import BreakerPolicy, CircuitBreaker
breaker = CircuitBreaker(policy=BreakerPolicy(10**9, failure_rate=None))
def fail():
    raise ValueError
def work():
    breaker.call(int)
    try:
        breaker.call(fail)
    except ValueError:
        pass
    breaker.statistics()
""",
    "breaker that moves": """
from agentkit import CircuitBreaker
breaker = CircuitBreaker()
def work():
    breaker.reset()
""",
    "rate limits": """
from agentkit.policy.limits import Member, Pool
from agentkit.policy.limits import Need, RateLimits
pool = Pool([Member(limits=RateLimits(10**9)), Member()])
def work():
    lease = pool.request(Need(), 0.0)
    lease.release(0.0)
""",
    "response cache": """
from agentkit.cache.response import ResponseCache
from agentkit.types import Response
cache = ResponseCache(None)
def work():
    cache.save("k", Response("text"), False)
    cache.load("k", False)
    cache.statistics()
""",
    "memory store": """
from agentkit.cache.memory import MemoryStore
store = MemoryStore()
def work():
    store.set("k", b"v", 60.0)
    store.get("k")
""",
    "disk store": """
import tempfile
from agentkit.cache.disk import DiskStore
from agentkit.cache.faults import CacheFault
store = DiskStore(tempfile.mkdtemp())
def work():
    try:
        store.set("k", b"v" * 20000, 60.0)
        store.get("k")
    except CacheFault:  # another process wrote for longer than this one waits
        pass
""",
    "cache writer": """
from agentkit.cache.writer import Writer
writer = Writer(lambda item: None)
def work():
    writer.submit("item", 1)
""",
    "state memory": """
from agentkit.providers.state import StateMemory
from agentkit.types import ProviderState, ToolCall
memory = StateMemory("model")
calls, state = (ToolCall(Key("id"), "clock"),), ProviderState("model", ())
def work():
    memory.remember(calls, state)
""",
    "agent": """
from agentkit import Agent
agent = Agent("helper", "tester")
agent.start()
def work():
    agent.execute_task(int)
""",
    "conversation": """
from agentkit.agent.memory import Memory
from agentkit.types import Message, MessageRole
memory, message = Memory(max_messages=4), Message(MessageRole.USER, "hi")
def work():
    memory.add(message)
""",
    "clients": """
from agentkit.providers.transport.clients import SdkClients
clients = SdkClients(lambda: open(os.devnull), lambda: None)
def work():
    clients.sync()
    clients.close()
""",
    "key client": """
from agentkit.manager.keys import KeyClient
from agentkit.providers.endpoint import endpoint_of
endpoint = endpoint_of(lambda p, k: "", name="a", provider="p", fingerprint="", durable=False)
client = KeyClient(lambda: object(), lambda provider: endpoint, endpoint, name="k", idle_timeout=1)
def work():
    client.give_back(client.take(0.0), 10.0)
""",
    "shared call": """
from agentkit import LLMManager
llm = LLMManager(cache="memory", cache_ttl=1e-9)
llm.register_model("a", lambda prompt, kwargs: "text")
def work():
    llm.complete("the same")
""",
    "event loop": """
from agentkit import LLMManager
llm = LLMManager(cache=None)
async def model(prompt, kwargs):
    return "text"
llm.register_model("a", model)
def work():
    llm.complete("hi")
""",
    "clock": """
from agentkit.testing import FakeClock
clock = FakeClock()
def work():
    clock.advance(1.0)
""",
    "registry": """
from agentkit import LLMManager
llm = LLMManager(cache=None)
llm.register_model("a", lambda prompt, kwargs: "text")
def work():
    llm.set_active_model("a")
    llm.list_models()
    llm.complete("hi")
""",
    "manager": """
from agentkit import LLMManager, MetricsMiddleware
llm = LLMManager(cache="memory", middleware=[MetricsMiddleware()])
llm.register_model("a", lambda prompt, kwargs: "text", timeout=30)
numbers = iter(range(10**9))
def work():
    llm.complete(f"hi {next(numbers)}")
    llm.get_metrics()
""",
}


@forks
@pytest.mark.parametrize("first", range(PROGRAMS))
def test_a_child_never_waits_for_a_lock_of_its_parents_threads(first: int) -> None:
    setups = dict(list(SETUPS.items())[first::PROGRAMS])
    expected = [f"{kind} [0]" for kind in setups]
    assert run(PROGRAM, json.dumps(setups)).splitlines() == expected


def test_a_thread_enters_a_gate_again_while_a_fork_waits_for_it() -> None:
    gate = ForkGate(LONG)

    def enter() -> None:
        with gate:
            pass

    def close_and_open() -> None:  # a gate that stays closed would hold up each later fork
        gate.close()
        gate.open()

    def work() -> None:
        with gate:
            threading.Thread(target=close_and_open, daemon=True).start()
            while True:  # until the gate keeps another thread out
                other = threading.Thread(target=enter, daemon=True)
                other.start()
                other.join(0.05)
                if other.is_alive():
                    break
            enter()

    in_time(work)
