"""Claims and what became of them, as HTML. Whatever comes from a run is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from jaxtl.report.markup import Html, Section, bounded, counted, note, table
from jaxtl.runs.data import RunData

_OPEN = ("?", "open")
_SIGNS = {"holds": ("✓", "yes"), "does not hold": ("✗", "no"), "undecided": _OPEN}
_MEANINGS = {
    "holds": "the whole 95 % interval is on the claim's side of the threshold.",
    "does not hold": "the whole interval is on the other side.",
    "undecided": "the threshold lies within the interval: too few images to tell.",
}
# Of a claim, what is known beside its statistic, and where its threshold comes from.
_REMARKS = ("beside", "threshold_from")


def claims(run: RunData) -> Section:
    body = ""
    if run.claims:
        meanings = "".join(
            f"<li>{_sign(verdict)} {escape(meaning)}</li>" for verdict, meaning in _MEANINGS.items()
        )
        images = "images" if run.is_comparison else "test images"
        told = note(
            f"The intervals say how much the numbers would vary with other {images}. They do not include "
            "how much they would vary with another seed."
        )
        body = (
            f"<p>{escape(tally(run.claims))}</p>{claims_table(run.claims)}"
            f"<ul class='meanings'>{meanings}</ul>{told}"
        )
    return Section("claims", "Claims, and whether the numbers support them", body)


def tally(claims: Sequence[dict[str, Any]]) -> str:
    """How many claims have which verdict: "Of 2 claims about these maps, 1 holds, 1 does not, ..."."""
    kinds = [_SIGNS.get(str(claim["verdict"]), _OPEN)[1] for claim in claims]
    held, not_held, left = (kinds.count(kind) for kind in ("yes", "no", "open"))
    return (
        f"Of {counted(len(claims), 'claim')} about these maps, {held} hold{'s' * (held == 1)}, {not_held} "
        f"do{'es' * (not_held == 1)} not and {left} {'is' if left == 1 else 'are'} undecided."
    )


def claims_table(claims: Sequence[dict[str, Any]]) -> str:
    """A row for each claim: what it says, what became of it, and the number and threshold that decided."""
    if not claims:
        return ""
    shared = _shared_source(claims)
    rows = []
    for claim in claims:
        value = bounded(claim["value"], claim.get("low"), claim.get("high"))
        rows.append([_told(claim, bool(shared)), mark(claim), value, _condition(claim)])
    return shared + table(["Claim", "Verdict", "Value", "Holds if"], rows, texts=2)


def _shared_source(claims: Sequence[dict[str, Any]]) -> str:
    """Whose the claims are, as HTML, where all are of one source; "" otherwise."""
    sources = {said(claim, "source") for claim in claims}
    if len(sources) > 1 or not (source := sources.pop()):
        return ""
    quoted = (
        " Where a claim was worded otherwise, its first words are quoted." if any(map(_words, claims)) else ""
    )
    return note(f"{source}{quoted}")


def _words(claim: dict[str, Any]) -> str:
    """The words in which a claim was first made, where they are not those of its title."""
    claimed = said(claim, "claimed")
    return "" if claimed == said(claim, "text") else claimed


def _told(claim: dict[str, Any], is_shared: bool) -> Html:
    lines = _remarks(claim)
    lines += [] if is_shared else filter(None, [said(claim, "source")])
    lines += [f"First worded: “{words}”."] if (words := _words(claim)) else []
    under = "".join(f"<span class='quiet'>{escape(line)}</span>" for line in lines)
    return Html(f"<b>{escape(said(claim, 'text'))}</b>{under}")


def _remarks(claim: dict[str, Any]) -> list[str]:
    """Sentences below a claim; its own words where they say more than the columns beside them."""
    known = [line for name in _REMARKS if (line := said(claim, name))]
    if "held_in" in claim:  # over seeds
        return [said(claim, "words"), *(line for line in known if line != said(claim, "beside"))]
    if not known:
        return [said(claim, "words") or said(claim, "statistic")]
    return [f"The value: {said(claim, 'statistic')}.", *known]


def _condition(claim: dict[str, Any]) -> str:
    threshold = claim.get("threshold")
    return "" if threshold is None else f"{said(claim, 'direction')} {threshold:g}".strip()


def mark(claim: dict[str, Any]) -> Html:
    """A claim's verdict as a sign and its word."""
    return Html(_sign(str(claim["verdict"])))


def _sign(verdict: str) -> str:
    sign, kind = _SIGNS.get(verdict, _OPEN)
    return f"<span class='verdict {kind}'><span aria-hidden='true'>{sign}</span> {escape(verdict)}</span>"


def said(claim: dict[str, Any], name: str) -> str:
    return str(claim.get(name) or "")
