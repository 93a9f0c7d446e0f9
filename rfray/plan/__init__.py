"""From a study to a graph of runs, each with its key, its inputs and its cost."""

from rfray.plan.graph import CellPlan, Node, Plan
from rfray.plan.keys import keys_of_fewer_epochs
from rfray.plan.make import make_plan

__all__ = ["CellPlan", "Node", "Plan", "keys_of_fewer_epochs", "make_plan"]
