"""Reports as plain text and as HTML tables. Text has no colour and no width limit: colour is the caller's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from .trace import AxisField, Groups, Hint, LayerReport, Measured, ModelReport, Report, Row, WeightsReport

MAX_DRAWN: Final = 6  # groups drawn before the rest becomes a line of dots
WORDS: Final = {"parameters": "parameters", "multiply_adds": "multiply-adds", "output_bytes": "activation memory"}

Named = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""A table for HTML: caption, heads, rows."""


def plain(report: Report) -> str:
    """A report as text that ends without a newline."""
    blocks: list[list[str]] = []
    if isinstance(report, LayerReport):
        blocks = _layer(report)
    elif isinstance(report, ModelReport):
        blocks = _model(report)
    elif isinstance(report, WeightsReport):
        blocks = _weights_file(report)
    return "\n\n".join("\n".join(block) for block in blocks if block)


def size(count: int) -> str:
    """Bytes for people.

    Example:
        >>> from konv.explain.report import size
        >>> size(0), size(1023), size(4864), size(3 * 2**30)
        ('0 B', '1023 B', '4.75 KiB', '3 GiB')
    """
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{count} B" if unit == "B" else f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:.0f} {unit}"


def rate(amount: float, unit: str) -> str:
    """A number with a decimal prefix: ``rate(1.2e9, 'flop/s')`` is ``'1.2 Gflop/s'``."""
    for prefix in ("", "k", "M", "G", "T", "P"):
        if amount < 999.5 or prefix == "P":
            return f"{amount:.3g} {prefix}{unit}"
        amount /= 1000
    return ""


def number(value: object) -> str:
    """A whole number without a fraction part, a fraction with at most three places."""
    return f"{float(value):.3f}".rstrip("0").rstrip(".")  # type: ignore[arg-type]


def shape(sizes: Iterable[int]) -> str:
    """``(8, 3, 28, 28)`` as ``8 x 3 x 28 x 28``."""
    return " x ".join(map(str, sizes)) or "()"


def both(pair: Sequence[object]) -> str:
    """Height and width as ``3 x 5``."""
    return " x ".join(number(value) for value in pair)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Columns under their names; the first ``left`` lean left, numbers lean right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for cells in (head, *rows):
        parts = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        lines.append("  ".join(parts).rstrip())
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def field_words(field: tuple[AxisField, AxisField]) -> str:
    """A receptive field in one line."""
    seen = both([axis.size for axis in field])
    jump, center = both([axis.jump for axis in field]), ", ".join(number(axis.center) for axis in field)
    return f"{seen} pixels, jump {jump}, first centre at ({center})"


def hint_lines(hints: Iterable[Hint]) -> list[str]:
    """One line a hint, marked by more than colour."""
    return [f"  ! {hint.text}" for hint in hints]


# ---- one layer -------------------------------------------------------------------------------------------------


def _layer(report: LayerReport) -> list[list[str]]:
    head = [report.call, f"{shape(report.input_shape)} {report.dtype} -> {shape(report.output_shape)}"]
    blocks = [head, *_axes(report), _weights(report), _drawn(report.groups), _costs(report)]
    blocks.append(["receptive field", f"  {field_words(report.field)}"])
    if report.plan:
        blocks.append(["plan", f"  {report.plan.name}: {report.plan.reason}"])
    if report.measured:
        blocks.append(["measured", *(f"  {line}" for line in measured_lines(report.measured))])
    if report.hints:
        blocks.append(["hints", *hint_lines(report.hints)])
    return blocks


def _axes(report: LayerReport) -> list[list[str]]:
    height, width = report.axes
    if [step.replace("right", "bottom").replace("column", "row") for step in width.steps] == list(height.steps):
        own = [step for step in width.steps if step not in height.steps]
        steps = (*height.steps, *own)
        return [[f"height and width: {height.input} -> {height.output}", *(f"  {step}" for step in steps)]]
    return [
        [f"{axis.name}: {axis.input} -> {axis.output}", *(f"  {step}" for step in axis.steps)] for axis in report.axes
    ]


def _weights(report: LayerReport) -> list[str]:
    lines = []
    for tensor in (report.weight, report.bias):
        if tensor is not None:
            lines.append(f"{tensor.name} {shape(tensor.shape)}")
            lines += [f"  {axis}" for axis in tensor.axes]
    if report.init:
        lines.append(f"fresh values: {report.init.formula}")
    return lines


def _drawn(groups: Groups | None) -> list[str]:
    """Groups as blocks of the matrix of output channels (down) by input channels (across)."""
    if groups is None or groups.count == 1:
        return []
    name = f"depthwise, multiplier {groups.multiplier}" if groups.depthwise else "grouped"
    each = f"{groups.in_each} input channel{'s' * (groups.in_each != 1)}"
    made = f"{groups.out_each} output channel{'s' * (groups.out_each != 1)}"
    lines = [f"groups: {groups.count} ({name}); {each} and {made} in each"]
    shown = groups.blocks[:MAX_DRAWN]
    heads = [_span(inputs) for inputs, _ in shown]
    width = max(map(len, heads))
    side = max(len(_span(outputs)) for _, outputs in shown)
    rest = "  ..." if groups.count > len(shown) else ""
    lines.append("  " + " " * (side + 4) + "in " + " ".join(head.ljust(width) for head in heads).rstrip() + rest)
    for i, (_, outputs) in enumerate(shown):
        cells = " ".join(("#" if i == j else ".") * width for j in range(len(shown)))
        lines.append(f"  out {_span(outputs).ljust(side)}   {cells}{rest}")
    return [*lines, "  ..."] if rest else lines


def _span(ends: tuple[int, int]) -> str:
    return str(ends[0]) if ends[0] >= ends[1] else f"{ends[0]}-{ends[1]}"


def cost_rows(report: LayerReport) -> list[tuple[str, str]]:
    """The cost of a layer as names and words."""
    cost = report.cost
    rows = [
        ("parameters", f"{cost.parameters:,}"),
        ("multiply-adds", f"{cost.multiply_adds:,} ({rate(cost.flops, 'flop')})"),
        ("weights", size(cost.weight_bytes)),
        ("input", size(cost.input_bytes)),
        ("output", size(cost.output_bytes)),
        ("gradients", f"{size(cost.gradient_bytes)} (of input, output and weights, in training)"),
    ]
    if cost.flops:
        return [*rows, ("intensity", f"{number(cost.intensity)} flops a byte moved once")]
    return [row for row in rows if row[0] not in ("parameters", "multiply-adds", "weights")]


def _costs(report: LayerReport) -> list[str]:
    return ["cost", *(f"  {name:<14} {words}" for name, words in cost_rows(report))]


def measured_lines(measured: Measured) -> list[str]:
    """A measurement and its share of the machine's peak."""
    m = measured
    threads = f"{m.threads} thread{'s' * (m.threads != 1)}"
    return [
        f"{m.seconds * 1e6:,.1f} us a call (median of {m.runs}, {threads})",
        f"{rate(m.flops_rate, 'flop/s')} of {rate(m.peak_flops, 'flop/s')} measured peak, "
        f"{rate(m.bytes_rate, 'B/s')} of {rate(m.peak_bytes, 'B/s')} copy",
        f"{m.share:.0%} of what {m.bound} allow here" + (", by an algorithm that needs fewer" if m.share > 1 else ""),
    ]


# ---- a model ---------------------------------------------------------------------------------------------------

HEAD: Final = (
    *("#", "name", "layer", "from", "output", "kernel", "parameters", "multiply-adds"),
    *("forward", "training", "field", "jump", "centre", "hints"),
)
LEFT: Final = 6


def model_cells(row: Row) -> list[str]:
    """One row of a model's table, in the order of ``HEAD``."""
    field = row.field
    whole = field is not None and all(axis.whole for axis in field)
    return [
        str(row.index),
        row.name or "-",
        row.layer,
        ",".join("in" if i < 0 else str(i) for i in row.inputs),
        shape(row.output_shape),
        both(row.kernel) if row.kernel else "",
        f"{row.parameters:,}" if row.parameters else "",
        f"{row.multiply_adds:,}" if row.multiply_adds else "",
        size(row.forward_bytes),
        size(row.training_bytes),
        "" if field is None else both([axis.size for axis in field]),
        "" if field is None else "all" if whole else both([axis.jump for axis in field]),
        "" if field is None else ", ".join(number(axis.center) for axis in field),
        "!" * len(row.hints),
    ]


def _model(report: ModelReport) -> list[list[str]]:
    head = [report.name, f"{shape(report.input_shape)} {report.dtype} -> {shape(report.output_shape)}"]
    blocks = [head, table(HEAD, [model_cells(row) for row in report.rows], LEFT) if report.rows else []]
    blocks.append([f"{name:<14} {words}" for name, words in total_rows(report)])
    largest = [
        f"  {share.share:>4.0%} of {WORDS[share.what]}: {_where(report.rows[share.row])}" for share in report.dominating
    ]
    blocks.append(["dominating", *largest] if largest else [])
    hints = [f"  ! {_where(row)}: {hint.text}" for row in report.rows for hint in row.hints]
    blocks.append(["hints", *hints] if hints else [])
    return blocks


def _where(row: Row) -> str:
    return f"{row.name} ({row.layer})" if row.name else row.layer


def total_rows(report: ModelReport) -> list[tuple[str, str]]:
    """The sums over a model as names and words."""
    t = report.totals

    def at(index: int) -> str:
        return f" at {_where(report.rows[index])}" if report.rows else ""

    frozen = f" ({t.parameters - t.trainable:,} frozen)" if t.trainable != t.parameters else ""
    return [
        ("parameters", f"{t.parameters:,}{frozen}"),
        ("multiply-adds", f"{t.multiply_adds:,} ({rate(2 * t.multiply_adds, 'flop')})"),
        ("weights", size(t.weight_bytes)),
        ("activations", f"{size(t.activation_bytes)} written in one forward pass"),
        ("peak, forward", size(t.forward_peak) + at(t.forward_peak_row)),
        ("peak, training", f"{size(t.training_peak)}{at(t.training_peak_row)}, without the optimiser's state"),
    ]


def _weights_file(report: WeightsReport) -> list[list[str]]:
    head = f"{len(report.rows)} tensors, {report.parameters:,} numbers, {size(report.bytes)}"
    return [[report.name, head], table(WEIGHTS_HEAD, weight_cells(report), 4)]


WEIGHTS_HEAD: Final = ("tensor", "shape", "dtype", "likely layer", "bytes")


def weight_cells(report: WeightsReport) -> list[list[str]]:
    """The rows of a file of weights, in the order of ``WEIGHTS_HEAD``."""
    return [[row.name, shape(row.shape), row.dtype, row.layer, size(row.bytes)] for row in report.rows]


# ---- HTML ------------------------------------------------------------------------------------------------------


def html(report: Report) -> str:
    """The report as HTML tables without style or script; every word of it is escaped."""
    title, tables, hints = "", list[Named](), list[str]()
    if isinstance(report, LayerReport):
        title, tables, hints = report.call, _layer_tables(report), [hint.text for hint in report.hints]
    elif isinstance(report, WeightsReport):
        title, tables = report.name, [("Weights", WEIGHTS_HEAD, weight_cells(report))]
    elif isinstance(report, ModelReport):
        title, tables = report.name, _model_tables(report)
        hints = [f"{_where(row)}: {hint.text}" for row in report.rows for hint in row.hints]
    parts = ['<section class="konv-report">', f"<h3>{escape(title)}</h3>", *(_html_table(*each) for each in tables)]
    if hints:
        parts += ["<ul>", *(f"<li>{escape(hint)}</li>" for hint in hints), "</ul>"]
    return "\n".join([*parts, "</section>"])


def _html_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<table>", f"<caption>{escape(caption)}</caption>"]
    if head:
        lines.append("<thead><tr>" + "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head) + "</tr></thead>")
    lines.append("<tbody>")
    for first, *others in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody>", "</table>"])


def _layer_tables(report: LayerReport) -> list[Named]:
    sizes = f"{shape(report.input_shape)} {report.dtype} to {shape(report.output_shape)}"
    tables: list[Named] = []
    steps = [(axis.name, step) for axis in report.axes for step in axis.steps]
    tables.append((f"Output size: {sizes}", ("axis", "step"), steps))
    tensors = [tensor for tensor in (report.weight, report.bias) if tensor is not None]
    if tensors:
        rows = [(tensor.name, shape(tensor.shape), "; ".join(tensor.axes)) for tensor in tensors]
        tables.append(("Weights", ("tensor", "shape", "axes"), rows))
    facts = [*cost_rows(report), ("receptive field", field_words(report.field))]
    if report.init:
        facts.append(("fresh values", report.init.formula))
    if report.groups and report.groups.count > 1:
        facts.append(("groups", _drawn(report.groups)[0].removeprefix("groups: ")))
    if report.plan:
        facts.append(("plan", f"{report.plan.name}: {report.plan.reason}"))
    if report.measured:
        facts.append(("measured", "; ".join(measured_lines(report.measured))))
    return [*tables, ("Cost", (), facts)]


def _model_tables(report: ModelReport) -> list[Named]:
    sizes = f"{shape(report.input_shape)} {report.dtype} to {shape(report.output_shape)}"
    return [
        (f"Layers: {sizes}", HEAD, [model_cells(row) for row in report.rows]),
        ("Totals", (), total_rows(report)),
    ]
