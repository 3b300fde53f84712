"""Show a measurement as a table and a few sentences for a person."""

from typing import Any

from cleangpt.basics.words import counted
from cleangpt.terminal.console import for_tables
from cleangpt.terminal.narrow import Table


def show(result: dict[str, Any]) -> None:
    model, unit = result["model"], result["unit"]
    layers = counted(model["layers"], "layer")
    shape = f"{layers}, {model['width']} wide, context {model['context']}, batch {model['batch']}"
    title = f"{result['what']}: {model['name']}, {model['parameters']:,} parameters, {shape}\n"
    title += f"{result['device']}, torch {result['torch']}"
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in ("", "dtype", unit, "low to high", "ms a call", "low to high"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    trains = result["what"] == "train"
    for name in ("MFU", "GB") if trains else ():
        table.add_column(name, justify="right", no_wrap=True)
    for name, side in result["sides"].items():
        calls = side["step_ms"]
        cells = [f"{side['median']:,.0f}", f"{side['low']:,.0f} to {side['high']:,.0f}"]
        cells += [f"{calls['median']:,.2f}", f"{calls['low']:,.2f} to {calls['high']:,.2f}"]
        if trains:
            cells += [f"{side['mfu']:.1%}", f"{side['memory_gb']:.2f}" if "memory_gb" in side else ""]
        table.add_row(name, side["dtype"], *cells)
    console = for_tables()
    console.print(table, soft_wrap=True)
    for sentence in sentences(result):
        console.print(sentence, markup=False, soft_wrap=True)


def sentences(result: dict[str, Any]) -> list[str]:
    found = []
    for name, side in result["sides"].items():
        if (ratio := side.get("ratio")) and "page" not in result:
            between = f"{ratio['low']:.2f} to {ratio['high']:.2f}"
            found.append(f"{ratio['median']:.2f} times as fast as {name} ({between} over {result['rounds']} rounds)")
    if page := result.get("page"):
        loses = page["training_loses"]
        found.append(
            f"The training loses {loses['median']:.1%} of its speed beside the page ({loses['low']:.1%} to "
            f"{loses['high']:.1%} over {result['rounds']} rounds)"
        )
        found.append(
            f"{page['runs']:,} runs of {page['rows']:,} rows are listed in {page['listed_seconds']:.2f} s, a curve is "
            f"read in {page['curve_seconds']:.2f} s, again in {page['curve_again_seconds']:.3f} s, and a new row is "
            f"told after {page['new_row_seconds']:.1f} s at most"
        )
    if peaks := result.get("peak_tflops"):
        best = ", ".join(f"{peak:.3g} TFLOP/s in {dtype}" for dtype, peak in peaks.items())
        found.append(f"MFU is of the best matmul here: {best}")
    if start := result.get("startup_seconds"):
        found.append(f"From the command to the first step: {start['cold']:.1f} s cold, {start['warm']:.1f} s warm")
    if complete := result.get("complete"):
        how = "measured" if complete["measured"] else "estimated from a part"
        unit = result["unit"].partition(" ")[0]
        split = f"all {complete['of']:,} {unit} of {complete['split']}"
        found.append(f"{split}: {complete['seconds']:,.1f} s ({how})")
    if result.get("random_tokens"):
        found.append("The text is not prepared: these were random tokens of a vocabulary of its kind")
    return found
