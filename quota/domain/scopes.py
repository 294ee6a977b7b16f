"""What limits, reserves and pins hold for: a part of the deployment, as text that people write."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from quota.domain.identifiers import id_problem
from quota.domain.locations import location_problem, parse_location
from quota.domain.refusal import Refusal, RefusalKind

ScopeKind = Literal["experiment", "experiments", "label", "store", "deployment"]

INNERMOST_FIRST: tuple[ScopeKind, ...] = ("experiment", "experiments", "label", "store", "deployment")
"""The order in which limits are settled."""

_FORMS: dict[ScopeKind, str] = {
    "experiment": "experiment:<id>",
    "experiments": "experiments",
    "label": "label:<key>=<value>",
    "store": "store:<uri>",
    "deployment": "deployment",
}


@dataclass(frozen=True, slots=True)
class Scope:
    """A part of the deployment.

    Attributes:
        kind: `experiment`: one, by its id. `experiments`: each one by itself that has none of its own, of whatever is
            scoped; so a limit on `experiments` is as many limits as there are such experiments. `label`: the
            experiments with a label, together. `store`: all checkpoints below a URI, together. `deployment`: all.
        name: The id, the `<key>=<value>`, or the URI; empty for the two that need none.
    """

    kind: ScopeKind
    name: str = ""

    @classmethod
    def of_experiment(cls, experiment_id: str) -> Scope:
        """Return the scope of one experiment."""
        return cls("experiment", experiment_id)

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read a scope.

        Raises:
            ValueError: `scope_problem(text)` is not None; the message is that problem.
        """
        problem = scope_problem(text)
        if problem is not None:
            raise ValueError(problem)
        kind, _, name = text.partition(":")
        return cls(next(one for one in INNERMOST_FIRST if one == kind), name)

    @property
    def text(self) -> str:
        """Its one spelling, as the log and the tables have it."""
        return f"{self.kind}:{self.name}" if self.name else self.kind

    @property
    def is_shared(self) -> bool:
        """Whether several experiments may be in it."""
        return self.kind not in {"experiment", "experiments"}

    @property
    def order(self) -> tuple[int, int, str]:
        """Sorts scopes innermost first; among stores the longer prefix is the inner one."""
        return INNERMOST_FIRST.index(self.kind), -len(self.name) if self.kind == "store" else 0, self.name

    @property
    def label(self) -> tuple[str, str]:
        """The key and the value of a label's scope: the key ends at the first `=`."""
        key, _, value = self.name.partition("=")
        return key, value

    def contains(self, experiment_id: str, labels: Mapping[str, str], uri: str | None) -> bool:
        """Tell whether a checkpoint belongs to it.

        `experiments` contains each experiment's; whoever asks has to take the experiments one by one, and to leave
        out those that have one of their own.

        Args:
            experiment_id: Its experiment.
            labels: What that is labelled with.
            uri: Where it lies; None for one that is not written yet, which lies in no store.
        """
        match self.kind:
            case "experiment":
                return experiment_id == self.name
            case "label":
                key, value = self.label
                return labels.get(key) == value
            case "store":
                # Locations have one spelling each, so this is what `Location.contains` says, and quicker.
                prefix = self.name if self.name.endswith("/") else f"{self.name}/"
                return uri is not None and f"{uri.removesuffix('/')}/".startswith(prefix)
            case "experiments" | "deployment":
                return True


def scope_problem(text: str) -> str | None:
    """Say what keeps `text` from being a scope, or None."""
    kind, separator, name = text.partition(":")
    if text in {"experiments", "deployment"}:
        return None
    if not separator or kind not in {"experiment", "label", "store"}:
        forms = ", ".join(f"`{form}`" for form in _FORMS.values())
        return f"a scope is one of {forms}"
    match kind:
        case "experiment":
            return id_problem(name)
        case "label":
            return _label_problem(name)
        case _:
            return _store_problem(name)


def _label_problem(name: str) -> str | None:
    key, separator, value = name.partition("=")
    if not separator:
        return "a label is written `label:<key>=<value>`, e.g. label:team=vision"
    for part, what in ((key, "key"), (value, "value")):
        problem = id_problem(part)
        if problem is not None:
            return f"the label's {what}: {problem}"
    return None


def _store_problem(uri: str) -> str | None:
    problem = location_problem(uri)
    if problem is None and not parse_location(uri).components and uri.startswith("file:"):
        return "this is all of every disk; write `deployment`, or name a directory"
    return problem


def scope_refusal(text: str, kinds: Collection[ScopeKind] = INNERMOST_FIRST, what: str = "this") -> Refusal | None:
    """Check the field `scope`.

    Args:
        text: The scope.
        kinds: Which kinds are allowed.
        what: What they are allowed for, as a message says it.
    """
    problem = scope_problem(text)
    if problem is None and Scope.parse(text).kind not in kinds:
        forms = " or ".join(f"`{_FORMS[kind]}`" for kind in INNERMOST_FIRST if kind in kinds)
        problem = f"{what} is for {forms}"
    return None if problem is None else Refusal(RefusalKind.IDENTITY, "scope", text, problem)
