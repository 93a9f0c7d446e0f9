"""The frontier's rule as it is said, with a look at every ready node at every step: an oracle."""

from __future__ import annotations

from rfray.engine.frontier import State, upward_ranks


class SlowFrontier:
    """Which nodes start, by walking over all that are ready."""

    def __init__(self, plan, capacity):
        self.plan, self.free = plan, capacity
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
        """The nodes that start, heaviest first; the first misfit of a stage reserves its need."""
        passed, open_to, started = set(), self.free, []
        while candidates := [node for node in self.ready() if node.key not in passed]:
            running = [k for k, state in self.states.items() if state is State.RUNNING]
            cells = [node for node in candidates if node.stage == "train"]
            if cells and not any(self.plan.nodes[k].stage == "train" for k in running):
                candidates = cells
            node = min(candidates, key=lambda n: (-self.ranks[n.key], self.order[n.key]))
            if open_to.holds(demand(node)):
                self.states[node.key] = State.RUNNING
                self.free -= demand(node)
                started.append(node)
            else:
                # What all of its stage lack is kept for one of them.
                passed |= {other.key for other in self.ready() if other.stage == node.stage}
            open_to -= demand(node)
        return started

    def end(self, key, released):
        self.free += released
        self.states[key] = State.DONE
