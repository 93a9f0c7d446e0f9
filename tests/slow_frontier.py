"""The frontier's rule as it is said, with a look at every ready node at every step: an oracle."""

from __future__ import annotations

from rfray.engine.frontier import State, upward_ranks


class SlowFrontier:
    """Which nodes start, by walking over all that are ready."""

    def __init__(self, plan, machines):
        self.plan, self.machines, self.free = plan, machines, dict(machines)
        self.held = {}
        self.states = dict.fromkeys(plan.nodes, State.WAITING)
        self.ranks = upward_ranks(plan)
        self.order = {key: place for place, key in enumerate(plan.nodes)}

    def ready(self):
        done = {key for key, state in self.states.items() if state is State.DONE}
        return [
            node
            for key, node in self.plan.nodes.items()
            if self.states[key] is State.WAITING and set(node.inputs) <= done
        ]

    def start(self, demand):
        """The nodes that start, heaviest first, each on the machine where least is left over.

        Of machines that are alike it takes the first by name. The first misfit of a stage keeps the
        machine that lacks least of those that could hold it.
        """
        passed, kept, started = set(), [], []
        while candidates := [node for node in self.ready() if node.key not in passed]:
            running = [k for k, state in self.states.items() if state is State.RUNNING]
            cells = [node for node in candidates if node.stage == "train"]
            if cells and not any(self.plan.nodes[k].stage == "train" for k in running):
                candidates = cells
            node = min(candidates, key=lambda n: (-self.ranks[n.key], self.order[n.key]))
            need = demand(node)
            fitting = [name for name, free in self.free.items() if free.holds(need)]
            if fitting:
                name = min(fitting, key=lambda n: (self.free[n].size, self.machines[n].size, n))
                self.states[node.key], self.held[node.key] = State.RUNNING, (name, need)
                self.free[name] -= need
                started.append(node)
                continue
            passed |= {other.key for other in self.ready() if other.stage == node.stage}
            able = [name for name, offered in self.machines.items() if offered.holds(need)]
            if able:
                name = min(
                    able,
                    key=lambda n: (
                        self.free[n].lacks(need),
                        self.machines[n].size,
                        self.free[n].size,
                        n,
                    ),
                )
                self.free[name] -= need
                kept.append((name, need))
        for name, need in kept:
            self.free[name] += need
        return started

    def end(self, key):
        name, need = self.held.pop(key)
        self.free[name] += need
        self.states[key] = State.DONE
