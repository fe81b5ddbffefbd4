"""Do the numbers add up? Overall against the categories, and published numbers against the partitions in use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import Benchmark, Revision
from proxygrm.evaluate.benchmarks.anchors import decimals, right_of
from proxygrm.evaluate.scores.metrics import Figures

_OPTIONAL = {"none", "safety/toxicity"}  # categories that a complete table may lack


def published_numbers(text: str, bench: Benchmark) -> dict[str, str]:
    """ "general=60.1,overall=71.9" -> {name: number as written}; per cent, or shares if none is above 1."""
    numbers: dict[str, str] = {}
    names = {"overall", "macro", *(name for cut in bench.partitions.values() for name in cut.names)}
    known = {name.lower(): name for name in names}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        name, value = name.strip().lower(), value.strip().rstrip("%")
        if name not in known:
            raise UserError(
                f"--published has {name!r}; {bench.title} has: {', '.join(sorted(names))}",
                code="eval.published-name",
                name=name,
                known=sorted(names),
            )
        try:
            if not 0 <= float(value) <= 100:
                raise ValueError
        except ValueError as error:
            raise UserError(
                f"--published has {name}={value!r}; use a number from 0 to 100",
                code="eval.published-number",
                name=name,
                value=value,
            ) from error
        numbers[known[name]] = value
    if not numbers:
        raise UserError(
            "--published has no number; e.g. general=60.1,hallucination=75.2,reasoning=59,overall=71.9",
            code="eval.published-empty",
        )
    if all(float(value) <= 1 for value in numbers.values()):
        numbers = {name: _per_cent(value) for name, value in numbers.items()}
    return numbers


def _per_cent(share: str) -> str:
    return f"{float(share) * 100:.{max(decimals(share) - 2, 0)}f}"


def weighted_check(figures: Mapping[str, Any]) -> Figures:
    """Whether `overall` is the mean of the categories weighted by their pairs, and n their sum."""
    categories = figures["categories"].values()
    n = sum(c["n"] for c in categories)
    weighted = sum(c["n"] * c["accuracy"] for c in categories if c["n"]) / n
    return {"n": n, "weighted": weighted, "holds": n == figures["n"] and abs(weighted - figures["overall"]) < 1e-9}


def fitting_partitions(
    bench: Benchmark, published: Mapping[str, str], sizes_of: Mapping[str, Mapping[str, int]] | None = None
) -> list[Figures]:
    """For every partition whether the published numbers fit it.

    sizes_of: {partition: {category: pairs}} of answers, used where the benchmark's sizes are unknown. A number fits a
    category when some count of right rows (whole, or half for two orders) gives it as printed. `fits` is None when
    nothing could be checked, else whether everything that could be checked agrees within rounding.
    """
    verdicts = []
    for name, cut in bench.partitions.items():
        sizes = dict(cut.sizes) or dict((sizes_of or {}).get(name, {}))
        checks: dict[str, bool] = {}
        details: list[str] = []
        by_category = {c: v for c, v in published.items() if c in cut.names}
        for category, value in by_category.items():
            if sizes.get(category) and not cut.stratum:
                checks[category] = right_of(value, sizes[category], halves=True) is not None
                if not checks[category]:
                    details.append(f"{category} {value} is not possible with {sizes[category]} rows")
        complete = sizes and not cut.stratum and set(by_category) >= {c for c, size in sizes.items() if size}
        overall, macro = published.get("overall"), published.get("macro")
        if complete and overall:
            weighted = sum(sizes[c] * float(v) for c, v in by_category.items() if c in sizes) / sum(sizes.values())
            checks["overall"] = abs(weighted - float(overall)) <= _rounding(overall, *by_category.values())
            details.append(f"weighted {weighted:.2f}, published {overall}")
        if macro and (complete or not set(cut.names) - set(by_category) - _OPTIONAL):
            parts = [float(v) for v in by_category.values()]
            parts += [float(overall)] if cut.macro_with_all and overall else []
            mean = sum(parts) / len(parts)
            checks["macro"] = abs(mean - float(macro)) <= _rounding(macro, *by_category.values())
            details.append(f"mean {mean:.2f}, published macro {macro}")
        verdicts.append({
            "partition": name, "about": cut.about, "sizes": sizes,
            "fits": all(checks.values()) if checks else None, "checks": checks, "detail": "; ".join(details),
        })  # fmt: skip
    return verdicts


def fitting_revisions(bench: Benchmark, overall: str) -> list[tuple[Revision, float | None]]:
    """Every revision with the count of right pairs that gives `overall` per cent as printed, or None."""
    return [(revision, right_of(overall, revision.rows)) for revision in bench.revisions]


def _rounding(target: str, *parts: str) -> float:
    """Largest rounding error of the target and of the parts it is computed from, in per cent."""
    return 0.5 * 10 ** -decimals(target) + 0.5 * 10 ** -min(decimals(part) for part in parts) + 1e-9
