"""Seeded mistakes in the way out to the machine: each must be caught at the controller."""

from __future__ import annotations

from tests.faults.mutants import Mutant

OUTPUT_MUTANTS = (
    Mutant(
        "a result is shown before its verdict is on disk",
        (
            (
                "line/outgoing.py",
                "        done.add_done_callback(durable)\n",
                "        outputs.offer(result)\n",
            ),
        ),
    ),
    Mutant(
        "every verdict passes",
        (
            (
                "output/result.py",
                "        return self.disposition is Disposition.PASS\n",
                "        return True\n",
            ),
        ),
    ),
    Mutant(
        "the deadline runs from the verdict and not from the trigger",
        (
            (
                "output/showing.py",
                "        deadline_s = triggered_s + self._table.deadline_ms / 1e3\n",
                "        deadline_s = due.known_s + self._table.deadline_ms / 1e3\n",
            ),
        ),
    ),
    Mutant(
        "nobody looks at the clock before the coil",
        (
            (
                "output/showing.py",
                "            moment = Moment(now_s, now_s - began_s, limit_s, self.open)\n",
                "            moment = Moment(began_s, 0.0, limit_s, self.open)\n",
            ),
        ),
    ),
    Mutant(
        "a late result passes",
        (
            (
                "output/deadline.py",
                "        and not found & (Fault.LATE | Fault.WITHHELD",
                "        and not found & (Fault.WITHHELD",
            ),
        ),
    ),
    Mutant(
        "a new connection does not begin with REJECT",
        (
            (
                "output/showing.py",
                "            connection.show(name, shown.block)\n"
                "        for name, shown in self._shown.items():\n"
                "            connection.write(name, shown.block)\n",
                "        for name, shown in self._shown.items():\n",
            ),
        ),
    ),
    Mutant(
        "the coils are set before the registers",
        (
            (
                "output/showing.py",
                "        connection.write(name, block)\n        if block.passed:\n",
                "        if block.passed:\n",
            ),
            (
                "output/showing.py",
                "        done_s = time.monotonic()\n        shown.block,",
                "        connection.write(name, block)\n"
                "        done_s = time.monotonic()\n        shown.block,",
            ),
        ),
    ),
    Mutant(
        "a result whose answer was lost is shown again",
        (
            (
                "output/outlet.py",
                "                    self._skipped[due.result.block] = True\n"
                "                self.unsent += 1\n                raise\n",
                "                    self._schedule.add(due)\n                raise\n",
            ),
            (
                "output/outlet.py",
                "[*self._slots.values(), *self._schedule.clear()]",
                "[*self._slots.values()]",
            ),
        ),
    ),
    Mutant(
        "a stop leaves the output as it is",
        (
            (
                "output/outlet.py",
                "                self.showing.closing = True\n"
                "                self.showing.make_safe(connection)\n",
                "                self.showing.closing = True\n",
            ),
        ),
    ),
    Mutant(
        "a new start does not go on with the toggle that it finds",
        (
            (
                "output/showing.py",
                "                toggle=connection.toggle(name),\n",
                "                toggle=shown.block.toggle,\n",
            ),
        ),
    ),
    Mutant(
        "the end of a PASS flips the toggle",
        (
            (
                "output/showing.py",
                "replace(shown.block, passed=False, disposition=REJECTED)\n",
                "replace(\n                    shown.block, passed=False, disposition=REJECTED,"
                " toggle=not shown.block.toggle\n                )\n",
            ),
        ),
    ),
)
