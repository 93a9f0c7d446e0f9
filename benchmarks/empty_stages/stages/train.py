"""train, asleep."""

from sleeping import asleep, rfrays_own

_own = rfrays_own("train")
globals().update({name: value for name, value in vars(_own).items() if name[0] != "_"})

STAGE = asleep(_own.STAGE)
