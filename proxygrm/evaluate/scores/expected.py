"""Which pairs a file of answers must cover, from the pairs themselves."""

from __future__ import annotations

from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import numbered_lines, value_of
from proxygrm.core.ids import id_text
from proxygrm.evaluate.rows.answers import bare_id


def ids_of(path: Path) -> list[str]:
    """The release's ids in a pairs folder, or in a JSONL with `id` or `ID`; one per row, with repeats."""
    path = Path(path)
    if (path / "pairs.parquet").is_file() or path.suffix == ".parquet":
        from proxygrm.core.pairs import pairs_file

        table = pairs_file(path).read(columns=["id", "source"])
        return [bare_id(i, s) for i, s in zip(table["id"].to_pylist(), table["source"].to_pylist(), strict=True)]
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; pass a pairs folder, or the JSONL whose rows were judged",
            code="data.no-pairs",
            path=path,
        )
    ids = []
    for number, line in numbered_lines(path):
        try:
            row = value_of(line)
            if not isinstance(row, dict) or not row.keys() & {"id", "ID"}:
                raise ValueError("not a JSON object with `id` or `ID`")
            source = str(row.get("source") or path.stem)  # as in `load_pairs`
            ids.append(bare_id(id_text(row["id"] if "id" in row else row["ID"]), source))
        except ValueError as error:
            raise UserError(
                f"{path} line {number} is not a pair with an id: {error}",
                code="data.bad-pair",
                path=path,
                row=number,
                reason=str(error),
            ) from error
    return ids
