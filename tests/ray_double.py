"""A double of Ray in this process, for tests of what runs on a cluster."""

import itertools
import pickle
from types import SimpleNamespace

from paddlevideo.scale.conductor import build, pack, unpack
from paddlevideo.scale.stages import CountTries, run_unit


class RayError(Exception):
    pass


class Rounds:
    """What a conductor does: the units in any order, until `fault` says otherwise.

    Args:
        fault: number of the round -> after how many results what happens: an exception is raised,
            `stall` waits for ever, `twice` gives a result again.
        item_seconds: number of a unit -> what each of its items takes.

    Attributes:
        sizes: number of units of each round.
        items: number of items of each unit.
    """

    def __init__(self, fault=None, item_seconds=lambda unit: 0.01):
        self.fault, self.item_seconds = fault or {}, item_seconds
        self.items: list[int] = []
        self.count = itertools.count()
        self.sizes: list[int] = []

    def __call__(self, stages, units, tries):
        number = next(self.count)
        self.sizes.append(len(units))
        limit, what = self.fault.get(number, (None, None))
        done, workers = [], {}
        for unit, data in reversed(units.items()):
            if len(done) == limit:
                if isinstance(what, Exception):
                    raise what
                if what == "stall":
                    yield "stall"
                elif what == "twice":
                    yield done[-1]
            pairs = unpack(data)
            self.items.append(len(pairs))
            for sent in map(pickle.dumps, stages):
                stage = pickle.loads(sent)
                if sent not in workers:
                    workers[sent] = build(stage)  # a worker keeps it: a model takes long to open
                pairs = run_unit(stage, workers[sent], unit, pairs, CountTries())
            done.append((unit, pack(pairs), self.item_seconds(unit) * len(pairs)))
            yield done[-1]


class Handle:
    """A handle of an actor: methods have `remote`, and their results are thunks."""

    def __init__(self, instance):
        self._instance = instance

    def __getattr__(self, name):
        method = getattr(self._instance, name)
        return SimpleNamespace(remote=lambda *args: lambda: method(*args))


class FakeConductor:
    def __init__(self, results):
        self._results = results

    def next(self):
        return next(self._results, None)


class FakeRay:
    """A Ray of `nodes` nodes with 2 CPUs each."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, rounds: Rounds, nodes: int = 2):
        self.rounds, self.num_nodes, self.killed = rounds, nodes, 0
        self._ready: dict = {}

    def put(self, value):
        return pickle.dumps(value)  # a reference that can be sent

    def remote(self, **options):
        def decorate(cls):
            def create(*args):
                made = CountTries() if cls is CountTries else FakeConductor(self.rounds(*args))
                return Handle(made)

            return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=create))

        return decorate

    def wait(self, refs, timeout):
        value = self._call(refs[0])
        return ([], refs) if value == "stall" else (refs, [])

    def _call(self, ref):
        if ref not in self._ready:
            try:
                self._ready[ref] = ref()
            except RayError as error:
                self._ready[ref] = error
        return self._ready[ref]

    def get(self, ref):
        if isinstance(ref, bytes):
            return pickle.loads(ref)
        value = self._call(ref)
        if isinstance(value, Exception):
            raise value
        return value

    def kill(self, handle):
        self.killed += 1

    def nodes(self):
        return [
            {"NodeID": str(number), "Alive": number < self.num_nodes, "Resources": {"CPU": 2.0}}
            for number in range(3)
        ]

    def available_resources(self):
        return {"CPU": 2.0 * self.num_nodes}
